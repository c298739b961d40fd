package proxy

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// grpc-java takes heads of 8 KiB, and ends the connection with one that is larger by a
// quarter. Callers share that connection.
func TestAHeadThatAProgramDoesNotTakeIsAnswered431AndItsConnectionGoesOn(t *testing.T) {
	for _, sidecars := range []int{1, 2} {
		c := combination{client: 2, program: 2, sidecars: sidecars}
		t.Run(c.String(), func(t *testing.T) {
			s := newStage(t, c)
			heads := make(chan string, 10)
			go func() {
				conn, err := s.l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(conn, preface); err != nil {
					return
				}
				f := http2.NewFramer(conn, conn)
				_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 8 << 10})
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					if h, ok := frame.(*http2.HeadersFrame); ok {
						heads <- "a head"
						_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
					}
				}
			}()
			for _, one := range []struct{ size, status string }{{"", "200"}, {strings.Repeat("x", 20<<10), "431"}, {"y", "200"}} {
				e := s.open()
				e.head(wireHead{first: "GET /", host: "a", fields: []string{"x-large: " + one.size}}, true)
				s.is("status of a head with "+one.size[:min(len(one.size), 1)], s.heads(e).first, one.status)
			}
			if len(heads) != 2 {
				t.Errorf("the program saw %d heads", len(heads))
			}
		})
	}
}
