package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestAHeadThatIsTooLargeIsRefused(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /", host: "a", fields: []string{"x-large: " + strings.Repeat("x", 66<<10)}}, true)
		s.is("status", s.heads(c).first, "431")
		c = s.open()
		var many []string
		for i := range 101 {
			many = append(many, fmt.Sprintf("x-%d: 1", i))
		}
		c.head(wireHead{first: "GET /", host: "a", fields: many}, true)
		s.is("status", s.heads(c).first, "431")
	})
}

// Every class of an HTTP/2 head that an HTTP/1.1 hop could read as something else: none
// reaches the program.
func TestNoDowngradeAttackReachesAProgram(t *testing.T) {
	get := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}
	with := func(name, value string) (pseudo [][2]string) {
		for _, p := range get {
			if p[0] == name {
				p[1] = value
			}
			pseudo = append(pseudo, p)
		}
		return pseudo
	}
	attacks := map[string]struct {
		pseudo [][2]string
		fields []string
		end    bool
		body   string
	}{
		"transfer-encoding":                 {get, []string{"transfer-encoding: chunked"}, false, "0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n"},
		"transfer-encoding in other case":   {get, []string{"Transfer-Encoding: chunked"}, false, "0\r\n\r\n"},
		"content-length below the body":     {with(":method", "POST"), []string{"content-length: 1"}, false, "xGET /evil HTTP/1.1\r\n\r\n"},
		"content-length above the body":     {with(":method", "POST"), []string{"content-length: 99"}, false, "x"},
		"two content-lengths":               {with(":method", "POST"), []string{"content-length: 1", "content-length: 2"}, false, "x"},
		"content-length that is no number":  {with(":method", "POST"), []string{"content-length: +1"}, false, "x"},
		"content-length without a body":     {with(":method", "POST"), []string{"content-length: 5"}, true, ""},
		"CRLF in a value":                   {get, []string{"x: a\r\nevil: 1"}, true, ""},
		"LF in a value":                     {get, []string{"x: a\nevil: 1"}, true, ""},
		"NUL in a value":                    {get, []string{"x: a\x00b"}, true, ""},
		"CRLF in a name":                    {get, []string{"x\r\nevil: 1"}, true, ""},
		"colon in a name":                   {get, []string{"x:evil: 1"}, true, ""},
		"space in a name":                   {get, []string{"x evil: 1"}, true, ""},
		"upper case in a name":              {get, []string{"X-Evil: 1"}, true, ""},
		"empty name":                        {get, []string{": 1"}, true, ""},
		"connection":                        {get, []string{"connection: x-one"}, true, ""},
		"keep-alive":                        {get, []string{"keep-alive: 1"}, true, ""},
		"proxy-connection":                  {get, []string{"proxy-connection: close"}, true, ""},
		"upgrade":                           {get, []string{"upgrade: websocket"}, true, ""},
		"te other than trailers":            {get, []string{"te: gzip"}, true, ""},
		"space in the path":                 {with(":path", "/ HTTP/1.1\r\nevil: 1"), nil, true, ""},
		"path with a space":                 {with(":path", "/a b"), nil, true, ""},
		"path that is absolute":             {with(":path", "http://evil/"), nil, true, ""},
		"path that is empty":                {with(":path", ""), nil, true, ""},
		"asterisk of another method":        {with(":path", "*"), nil, true, ""},
		"space in the method":               {with(":method", "GET / HTTP/1.1"), nil, true, ""},
		"CRLF in the method":                {with(":method", "GET\r\n"), nil, true, ""},
		"authority with userinfo":           {with(":authority", "evil@a"), nil, true, ""},
		"CRLF in the authority":             {with(":authority", "a\r\nevil: 1"), nil, true, ""},
		"space in the authority":            {with(":authority", "a b"), nil, true, ""},
		"another host beside the authority": {get, []string{"host: evil"}, true, ""},
		"two hosts":                         {get, []string{"host: a", "host: a"}, true, ""},
		"no authority and no host":          {get[:1:1], nil, true, ""},
		"duplicate pseudo-header":           {append(with("", ""), [2]string{":path", "/evil"}), nil, true, ""},
		"unknown pseudo-header":             {append(with("", ""), [2]string{":evil", "1"}), nil, true, ""},
		"status in a request":               {append(with("", ""), [2]string{":status", "200"}), nil, true, ""},
		"scheme that is none":               {with(":scheme", "ht tp"), nil, true, ""},
		"protocol without CONNECT":          {append(with("", ""), [2]string{":protocol", "websocket"}), nil, true, ""},
	}
	for _, program := range []int{1, 2} {
		s := newStage(t, combination{client: 2, program: program, sidecars: 1})
		reached := make(chan string, 100)
		go func() {
			for {
				c, err := s.l.Accept()
				if err != nil {
					return
				}
				go func() {
					b, _ := io.ReadAll(c)
					if _, frames, _ := strings.Cut(string(b), "SM\r\n\r\n"); program == 1 || strings.Contains(frames, "evil") {
						reached <- string(b)
					}
				}()
			}
		}()
		for name, a := range attacks {
			t.Run(fmt.Sprintf("h%d/%s", program, name), func(t *testing.T) {
				c := s.open().(*h2End)
				c.headers(a.pseudo, a.fields, a.end)
				if !a.end {
					_ = c.f.WriteData(1, true, []byte(a.body))
				}
				h, err := c.heads()
				if err == nil && h.first[0] != '4' && h.first != "501" && h.first != "505" {
					t.Errorf("answered %s", h.first)
				}
				_ = c.c.Close()
				select {
				case b := <-reached:
					// A body that breaks off reaches a program as a request that breaks off.
					if !strings.Contains(name, "the body") || strings.Contains(b, "evil") {
						t.Errorf("the program read %q", b)
					}
				case <-time.After(10 * time.Millisecond):
				}
			})
		}
	}
}
