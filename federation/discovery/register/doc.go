// Package register is the discovery source of what sidecars announce about
// themselves: the gateway's end of internal/register.
//
// An endpoint exists for as long as the stream that announced it. Nothing is
// kept on disk and there is no lease to wait out: kill -9 closes the stream at
// once, and the HTTP/2 pings of the server that carries it (gateway/xds) end the
// stream of a frozen sidecar within 2.5 s.
//
// Who may announce what: the service's namespace must be that of the caller's
// SPIFFE ID, and the endpoint's identity is the caller's, not what it writes. Two
// sidecars with the same instance name: the live one that was first keeps it.
package register
