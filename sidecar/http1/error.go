package http1

import "strconv"

// Error is a fault in a message from outside. Values are package variables: they
// carry no bytes of the message and cost nothing to return.
type Error struct {
	// Status is what a server answers when the fault is in a request. A fault in a
	// response is always answered with 502.
	Status int
	// Reason says what is wrong, in lower case.
	Reason string
}

// Error returns the reason with its status.
func (e *Error) Error() string { return "http/1.1: " + e.Reason + " (" + strconv.Itoa(e.Status) + ")" }

// The faults that [Request.Parse], [Response.Parse] and [Body.Next] report.
var (
	ErrLineTooLong   = &Error{414, "request line is longer than 32 KiB"}
	ErrHeadTooLarge  = &Error{431, "head is larger than 64 KiB with what the mesh adds"}
	ErrTooManyFields = &Error{431, "more than 100 header fields with those that the mesh adds"}
	ErrBareLF        = &Error{400, "line ends with LF without CR"}
	ErrBareCR        = &Error{400, "CR without LF"}
	ErrControl       = &Error{400, "control byte in a line"}
	ErrRequestLine   = &Error{400, "malformed request line"}
	ErrMethod        = &Error{400, "method is not a token"}
	ErrTarget        = &Error{400, "request target has a form that is not allowed"}
	ErrHTTP2         = &Error{505, "HTTP/2 where HTTP/1.1 is spoken"}
	ErrTLS           = &Error{400, "TLS where plain HTTP/1.1 is spoken"}
	ErrVersion       = &Error{505, "HTTP version is neither 1.0 nor 1.1"}
	ErrStatusLine    = &Error{400, "malformed status line"}
	ErrFold          = &Error{400, "folded header line"}
	ErrFieldName     = &Error{400, "header field name is not a token followed by a colon"}
	ErrHost          = &Error{400, "missing, repeated or malformed Host"}
	ErrLength        = &Error{400, "malformed or repeated Content-Length"}
	ErrLengthAndTE   = &Error{400, "both Content-Length and Transfer-Encoding"}
	ErrCoding        = &Error{501, "transfer coding before chunked"}
	ErrNotChunked    = &Error{400, "Transfer-Encoding that is repeated or whose last coding is not chunked"}
	ErrChunkedHTTP10 = &Error{400, "Transfer-Encoding in an HTTP/1.0 message"}
	ErrConnection    = &Error{400, "malformed Connection field"}
	ErrExpect        = &Error{417, "expectation other than 100-continue"}
	ErrChunkSize     = &Error{400, "malformed chunk size or extension"}
	ErrChunkEnd      = &Error{400, "chunk data is not followed by CRLF"}
	ErrChunkLine     = &Error{400, "chunk-size line is longer than 1 KiB"}
	ErrTrailer       = &Error{400, "malformed or forbidden trailer field"}
	ErrTrailerLarge  = &Error{431, "trailer section is larger than 8 KiB"}
)
