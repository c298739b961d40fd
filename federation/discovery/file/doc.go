// Package file finds services in a watched directory of resource files.
package file
