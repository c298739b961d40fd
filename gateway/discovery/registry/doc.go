// Package registry is the discovery source of what sidecars announce about
// themselves: the gateway's end of internal/register.
//
// An endpoint exists for as long as the stream that announced it. There is no
// lease to wait out: kill -9 closes the stream at once, and the HTTP/2 pings of
// the server that carries it (gateway/xds) end the stream of a frozen sidecar
// within 2.5 s.
//
// Who may announce what: a workload the service that its service account is named
// after, and those whose Service resources list the account (admit.go), which is
// judged again when the resources change. The endpoint's identity is the caller's,
// not what it writes. An address is one of the host that it calls from, or whoever
// answers there proves to have the caller's identity (prove.go); who is there itself
// is replaced by nobody else.
//
// Nobody can take an instance name or keep it from another: of two sidecars with one
// name, the later one is given another (entry.go).
//
// Registrations and weights are bounded per identity, and registrations in all. When
// the gateway is full, the namespace that has the most makes room for one that has
// fewer.
//
// Unknown is not empty: a gateway that restarts knows nobody, although everybody
// is there. So the names (and only the names) of the registrations are kept on disk;
// after a restart the source says "not known yet" until all of them are back, or
// 4 s have passed.
package registry
