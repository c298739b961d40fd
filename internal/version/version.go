// Package version says which build this is.
package version

import "runtime/debug"

// String returns the version of this build, as the go command stamped it: a tag,
// a pseudo-version with the commit (and +dirty), or "(devel)" when neither is known.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// Go returns the version of Go that built this.
func Go() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return ""
}
