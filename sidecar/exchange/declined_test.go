package exchange

import "testing"

func TestTheStatusOfACallIsEarlyWhenNothingComesBeforeIt(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n"
	for name, c := range map[string]struct {
		head, body string
		want       int
	}{
		"in the head":                     {head + "Grpc-Status: 14\r\n\r\n", "", 14},
		"in trailers that are here":       {head + "Transfer-Encoding: chunked\r\n\r\n", "0\r\ngrpc-message: busy\r\ngrpc-status: 8\r\n\r\n", 8},
		"in trailers that are not":        {head + "Transfer-Encoding: chunked\r\n\r\n", "0\r\ngrpc-status: 8\r\n", noStatus},
		"behind a message":                {head + "Transfer-Encoding: chunked\r\n\r\n", "2\r\nab\r\n0\r\ngrpc-status: 8\r\n\r\n", noStatus},
		"behind a message of zeros ahead": {head + "Transfer-Encoding: chunked\r\n\r\n", "02\r\nab\r\n0\r\ngrpc-status: 8\r\n\r\n", noStatus},
		"nowhere":                         {head + "Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", noStatus},
		"not here yet":                    {head + "Transfer-Encoding: chunked\r\n\r\n", "", noStatus},
	} {
		x := &exchange{session: &session{buffers: &buffers{}}}
		x.back = []byte(c.head + c.body)
		x.headEnd, x.filled = len(c.head), len(x.back)
		if n, err := x.resp.Parse(x.back); err != nil || n != x.headEnd {
			t.Fatal(n, err)
		}
		if got := x.earlyStatus(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
