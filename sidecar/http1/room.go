package http1

// The names of the fields that the mesh writes itself, as they go out.
const (
	hostField           = "Host: "
	requestIDField      = "x-request-id: "
	forwardedProtoField = "x-forwarded-proto: "
	forwardedForField   = "x-forwarded-for: "
	grpcTimeoutField    = "grpc-timeout: "
	clientCertField     = "x-forwarded-client-cert: "
	dateField           = "Date: "
	proxyStatusField    = "Proxy-Status: "
	keepAliveField      = "Connection: keep-alive"
)

// The longest values of those that a head may gain before another hop of the mesh
// reads it, in bytes. A driver must not hand in longer ones.
const (
	maxHost         = 253 // a DNS name
	maxRequestID    = 36  // a UUID
	maxProto        = len("https")
	maxForwardedFor = 45 // an IPv6 address with an IPv4 one in it
	maxDate         = len("Mon, 02 Jan 2006 15:04:05 GMT")
	maxVia          = 32 // a proxy's name, a token
)

// What one hop adds at most to a head, in fields and bytes. The hop before another
// one refuses what leaves less than this below MaxFields and MaxHead, see
// head.LeaveRoom: else a head would pass here and be refused there, in the name of a
// program that never saw it. x-forwarded-client-cert is not among them: only the
// last hop writes it, for the program.
const (
	requestRoomFields = 4 // Host, x-request-id, x-forwarded-proto, x-forwarded-for
	requestRoom       = respelled + requestRoomFields*len("\r\n") +
		len(hostField) + maxHost +
		len(requestIDField) + maxRequestID +
		len(forwardedProtoField) + maxProto +
		len(forwardedForField) + maxForwardedFor

	responseRoomFields = 3 // Date, Proxy-Status, Connection
	responseRoom       = respelled + responseRoomFields*len("\r\n") +
		len(dateField) + maxDate +
		len(proxyStatusField) + maxVia +
		len(keepAliveField)

	// respelled is what lines grow by that are written anew, at most: a space behind
	// the colon of Host, TE, Transfer-Encoding and Connection and behind a comma in
	// that, one behind a status code, a slash for an empty path and what is left of
	// "http://" once its authority is a Host.
	respelled = 16
)

// maxHead returns the bound of the head in bytes.
func (h *head) maxHead() int {
	switch {
	case !h.LeaveRoom:
		return MaxHead
	case h.isResponse:
		return MaxHead - responseRoom
	}
	return MaxHead - requestRoom
}

// maxFields returns the bound of the head in fields.
func (h *head) maxFields() int {
	switch {
	case !h.LeaveRoom:
		return MaxFields
	case h.isResponse:
		return MaxFields - responseRoomFields
	}
	return MaxFields - requestRoomFields
}
