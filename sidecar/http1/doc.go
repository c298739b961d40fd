// Package http1 is the sidecar's HTTP/1.1 wire engine (RFC 9110, RFC 9112): bytes
// in, parsed heads and body spans out, and bytes again. It holds no socket, clock
// or goroutine and allocates nothing per message, so that a goroutine or an event
// loop can drive it alike and so that tables and fuzzers can test it.
//
// A driver owns one buffer per direction and passes what has arrived:
//
//		buffer:   GET /cart HTTP/1.1 CRLF Host: … CRLF CRLF | body … | next message …
//		          └────────── Request.Parse ──────────────┘ └ Body.Next ┘
//		output:   AppendRequest(dst, &req, …)                 the same bytes, passed on
//
//	  - [Request.Parse] and [Response.Parse] consume a head. They keep their place
//	    between calls, so that a head that arrives byte by byte costs no more than
//	    one that arrives whole. They keep offsets and not pointers: the caller may
//	    move or grow its buffer between calls.
//	  - [Body] says how many of the following bytes belong to the message, and which
//	    of them are payload. Chunked bodies are checked and passed on as they are,
//	    trailers included.
//	  - [AppendRequest] and [AppendResponse] write the head for the next hop:
//	    hop-by-hop fields are gone, framing and identity are ours.
//
// # What is refused
//
// Whatever two implementations could read differently is refused and never
// forwarded (request smuggling): Content-Length together with Transfer-Encoding,
// repeated Content-Length or Host, a transfer coding other than chunked, chunk
// sizes that are not plain hexadecimal or do not fit 63 bits, chunk extensions
// beside their grammar, bare CR or LF anywhere, folded lines, space before a colon,
// control bytes in lines, bytes other than tokens in names, a Host or authority that
// is not uri-host [":" port], a request target with spaces, control or non-ASCII
// bytes, or with a backslash or a broken escape in its path, chunked bodies from
// HTTP/1.0. Faults are [*Error] values that carry the status to answer with.
package http1
