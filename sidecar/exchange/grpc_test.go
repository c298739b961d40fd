package exchange

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

func TestWhatIsGRPCIsToldByItsContentType(t *testing.T) {
	for value, want := range map[string]bool{
		"application/grpc": true, "Application/GRPC+proto": true, "application/grpc;charset=x": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grp": false, "": false, "text/plain": false,
	} {
		if got := isGRPC([]byte(value)); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestATimeoutIsReadAsGRPCWritesIt(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1S": time.Second, "100m": 100 * time.Millisecond, "99999999n": 99999999, "5u": 5 * time.Microsecond, "2M": 2 * time.Minute,
		"1H": time.Hour, "0S": 0, "99999999H": maxTimeout,
	} {
		if got, ok := parseTimeout([]byte(value)); !ok || got != want {
			t.Errorf("%q: %v, %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789n", "1 S"} {
		if got, ok := parseTimeout([]byte(value)); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestATimeoutGoesOnShorterRatherThanLonger(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0n", 0: "0n", 99_999_999: "99999999n", 100_000_000: "100000u", time.Second + 1: "1000000u", 200 * time.Second: "200000m",
		300 * 24 * time.Hour: "25920000S",
	} {
		got := string(appendTimeout(nil, d))
		if got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
		if back, ok := parseTimeout([]byte(got)); !ok || back > max(d, 0) {
			t.Errorf("%v came back as %v, %v", d, back, ok)
		}
	}
}

func TestTheStatusBehindABodyIsFound(t *testing.T) {
	for b, want := range map[string]int{
		"5\r\nhello\r\n0\r\ngrpc-status: 7\r\n\r\n":                 7,
		"0\r\nx: 1\r\nGrpc-Status:14\r\ngrpc-message: a: b\r\n\r\n": 14,
		"0\r\n\r\n":                              noStatus,
		"0\r\ngrpc-status: x\r\n\r\n":            noStatus,
		"11\r\ngrpc-status: 5\r\nx\r\n0\r\n\r\n": noStatus, // of the payload
		"grpc-message: only that\r\n\r\n":        noStatus,
		"":                                       noStatus,
	} {
		if got := trailerStatus([]byte(b)); got != want {
			t.Errorf("%q: %d, want %d", b, got, want)
		}
	}
}

func TestEveryAnswerOfTheMeshHasAStatusOfGRPC(t *testing.T) {
	for _, c := range []struct {
		r    LocalReply
		want int
	}{
		{LocalReply{503, connect.DestinationUnavailable, "", ""}, grpcUnavailable},
		{LocalReply{502, connect.ConnectionRefused, "", ""}, grpcUnavailable},
		{LocalReply{504, connect.ConnectionTimeout, "", ""}, grpcUnavailable},
		{LocalReply{504, responseTimeout, "", ""}, grpcDeadlineExceeded},
		{LocalReply{403, connect.RequestDenied, "", ""}, grpcPermissionDenied},
		{LocalReply{404, connect.DestinationNotFound, "", ""}, grpcUnimplemented},
		{LocalReply{431, connect.RequestError, "", ""}, grpcResourceExhausted},
		{LocalReply{400, connect.RequestError, "", ""}, grpcInternal},
	} {
		if got := c.r.grpcStatus(); got != c.want {
			t.Errorf("%d %s is %d, want %d", c.r.Status, c.r.Reason, got, c.want)
		}
	}
}
