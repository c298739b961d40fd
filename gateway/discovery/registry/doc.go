// Package registry is the discovery source of what sidecars announce about
// themselves: the gateway's end of internal/register.
//
// An endpoint exists for as long as the stream that announced it. There is no
// lease to wait out: kill -9 closes the stream at once, and the HTTP/2 pings of
// the server that carries it (gateway/xds) end the stream of a frozen sidecar
// within 2.5 s.
//
// Who may announce what: the service's namespace must be that of the caller's
// SPIFFE ID, and the endpoint's identity is the caller's, not what it writes. An
// address is one of the host that it calls from, or whoever answers there proves
// to have the caller's identity (prove.go). Two sidecars with the same instance name: the live one that was first keeps it.
//
// Unknown is not empty: a gateway that restarts knows nobody, although everybody
// is there. So the names (and only the names) of the registrations are kept on disk;
// after a restart the source says "not known yet" until all of them are back, or
// 4 s have passed.
package registry
