// Package osuser knows the users of this host: by name, and behind a connection
// that comes from this host.
package osuser
