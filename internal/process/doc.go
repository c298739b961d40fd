// Package process runs programs as children of this one: in process groups of
// their own, with their output in files, gone when this process is gone, and on
// ports that are free. The demo and the tests of the built binary use it.
package process
