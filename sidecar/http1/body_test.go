package http1

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// drain feeds s in pieces of the given size, as a driver does, and returns the
// payload, what was consumed, and the error.
func drain(b *Body, s string, piece int) (payload string, consumed int, err error) {
	var buf []byte
	for !b.Done() {
		n, p, err := b.Next(buf)
		payload += string(p)
		buf = buf[n:]
		consumed += n
		if err != nil {
			return payload, consumed, err
		}
		if n > 0 {
			continue
		}
		if len(s) == 0 {
			return payload, consumed, b.Closed()
		}
		k := min(piece, len(s))
		buf = append(buf, s[:k]...)
		s = s[k:]
	}
	return payload, consumed, nil
}

func TestAChunkedBodyIsReadInPiecesOfAnySize(t *testing.T) {
	const body = "5\r\nhello\r\nA;name=\"v\" ; x\r\n, big worl\r\n0001\r\nd\r\n0\r\nX-Sum: 1\r\nX-B:\r\n\r\n"
	for piece := 1; piece <= len(body)+1; piece++ {
		b := Body{state: chunkSize}
		payload, n, err := drain(&b, body+"GET /next", piece)
		if payload != "hello, big world" || n != len(body) || err != nil {
			t.Fatalf("in pieces of %d: %q, %d, %v", piece, payload, n, err)
		}
	}
}

func TestABadChunkedBodyIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       error
	}{
		{"empty size", "\r\n", ErrChunkSize},
		{"sign", "+1\r\na\r\n", ErrChunkSize},
		{"0x", "0x1\r\na\r\n", ErrChunkSize},
		{"space before", " 1\r\na\r\n", ErrChunkSize},
		{"space behind", "1 \r\na\r\n", ErrChunkSize},
		{"underscore", "1_0\r\n", ErrChunkSize},
		{"beyond 63 bits", "8000000000000000\r\n", ErrChunkSize},
		{"beyond 64 bits", "10000000000000001\r\n", ErrChunkSize},
		{"leading zeros", "00000000000000001\r\na", ErrChunkSize},
		{"LF only", "1\na\r\n0\r\n\r\n", ErrBareLF},
		{"CR in the extension", "1;a\rb\r\na\r\n", ErrChunkSize},
		{"LF in the extension", "1;a\nb\r\na\r\n", ErrBareLF},
		{"NUL in the extension", "1;\x00\r\na\r\n", ErrChunkSize},
		{"extension without a name", "1;\r\na\r\n", ErrChunkSize},
		{"extension with half a name", "1;a;\r\na\r\n", ErrChunkSize},
		{"extension with a name that is no token", "1;(\r\na\r\n", ErrChunkSize},
		{"extension with two names", "1;a b\r\na\r\n", ErrChunkSize},
		{"extension without its value", "1;a=\r\na\r\n", ErrChunkSize},
		{"extension with an open quote", "1;a=\"b\r\na\r\n", ErrChunkSize},
		{"extension with an escape at the end", "1;a=\"b\\\r\na\r\n", ErrChunkSize},
		{"extension behind a quote", "1;a=\"b\"c\r\na\r\n", ErrChunkSize},
		{"extension in another alphabet", "1;caf\xc3\xa9\r\na\r\n", ErrChunkSize},
		{"extension with white space behind", "1;a \r\na\r\n", ErrChunkSize},
		{"extension after a comma", "1,a\r\na\r\n", ErrChunkSize},
		{"long extension", "1;" + strings.Repeat("a", MaxChunkLine) + "\r\n", ErrChunkLine},
		{"data too long", "1\r\nab\r\n", ErrChunkEnd},
		{"data without end", "1\r\na1\r\n", ErrChunkEnd},
		{"CR and not LF", "1\r\na\rb", ErrChunkEnd},
		{"cut in the size", "5", io.ErrUnexpectedEOF},
		{"cut in the data", "5\r\nhe", io.ErrUnexpectedEOF},
		{"cut before the last chunk", "1\r\na\r\n", io.ErrUnexpectedEOF},
		{"cut in the trailer", "0\r\nA: b\r\n", io.ErrUnexpectedEOF},
		{"trailer that frames", "0\r\nContent-Length: 5\r\n\r\n", ErrTrailer},
		{"trailer that codes", "0\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTrailer},
		{"trailer that routes", "0\r\nHost: b\r\n\r\n", ErrTrailer},
		{"trailer that identifies", "0\r\nX-Forwarded-Client-Cert: URI=x\r\n\r\n", ErrTrailer},
		{"folded trailer", "0\r\nA: b\r\n c\r\n\r\n", ErrTrailer},
		{"trailer with LF", "0\r\nA: b\nC: d\r\n\r\n", ErrTrailer},
		{"trailer that is no field", "0\r\nGET / HTTP/1.1\r\n\r\n", ErrTrailer},
		{"LF behind the last chunk", "0\r\n\nA: b\r\n\r\n", ErrTrailer},
		{"large trailer", "0\r\nA: " + strings.Repeat("a", MaxTrailer) + "\r\n\r\n", ErrTrailerLarge},
		{"many trailers", "0\r\n" + strings.Repeat("A: b\r\n", MaxFields+1) + "\r\n", ErrTrailer},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 1 << 20} {
				b := Body{state: chunkSize}
				if _, _, err := drain(&b, c.body, piece); !errors.Is(err, c.want) {
					t.Errorf("in pieces of %d: %v, want %v", piece, err, c.want)
				}
			}
		})
	}
}

func TestChunkExtensionsThatAreOnesPass(t *testing.T) {
	for _, ext := range []string{
		";a", ";a=b", ";a;b", " ; a = b\t;\tc", ";a=\"\"", ";a=\"b;c=\\\"d\\\\\"", ";a=\"caf\xc3\xa9\t\";b",
		";chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
	} {
		body := "1" + ext + "\r\nx\r\n0" + ext + "\r\n\r\n"
		b := Body{state: chunkSize}
		if payload, n, err := drain(&b, body, 1); payload != "x" || n != len(body) || err != nil {
			t.Errorf("%q: %q, %d, %v", ext, payload, n, err)
		}
	}
}

// Nothing may follow, so that waiting for more would mean waiting for ever.
func TestABadLineIsRefusedAtOnce(t *testing.T) {
	for bytes, want := range map[string]error{
		"5\n": ErrBareLF, "5\rx": ErrChunkSize, "5;a\n": ErrBareLF, "5;a\x00": ErrChunkSize, "5;a\rb": ErrChunkSize,
		"5\r\nhello\n": ErrChunkEnd, "5\r\nhello\rx": ErrChunkEnd,
		"0\n": ErrBareLF, "0\r\n\n": ErrTrailer, "0\r\nA: b\n": ErrTrailer, "0\r\nA: b\r\n\n": ErrTrailer, "0\r\nA: b\rc\n": ErrTrailer,
		"0\r\nHost: b\r\n": ErrTrailer, "0\r\nA: b\r\nA\r\n": ErrTrailer,
	} {
		for _, piece := range []int{1, 1 << 20} {
			b := Body{state: chunkSize}
			if _, _, err := drain(&b, bytes, piece); !errors.Is(err, want) {
				t.Errorf("%q in pieces of %d: %v, want %v", bytes, piece, err, want)
			}
		}
	}
}

func TestABodyUntilCloseEndsByClosing(t *testing.T) {
	b := Body{state: untilClose}
	payload, _, err := drain(&b, "all of it", 4)
	if payload != "all of it" || err != nil || !b.Done() {
		t.Errorf("%q, %v", payload, err)
	}
	b = Body{state: fixed, left: 3}
	if _, _, err := drain(&b, "ab", 4); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut body of known length: %v", err)
	}
}
