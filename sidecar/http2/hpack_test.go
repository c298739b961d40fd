package http2

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// entries are what a table holds, the newest first.
func (t *hpackTable) entriesOf() (all []string) {
	for i := range t.len() {
		n, v := t.at(i)
		all = append(all, string(n)+": "+string(v))
	}
	return all
}

// RFC 7541 appendix C.4 and C.6: requests and responses with Huffman's code, the latter
// with a table of 256 bytes.
func TestTheExamplesOfRFC7541AreRead(t *testing.T) {
	for _, series := range []struct {
		form  headForm
		size  int
		heads [][3]string // block, what is read, the table
	}{
		{requestForm, tableSize, [][3]string{
			{"828684418cf1e3c2e5f23a6ba0ab90f4ff", "GET http / www.example.com", ":authority: www.example.com"},
			{"828684be5886a8eb10649cbf", "GET http / www.example.com cache-control: no-cache", "cache-control: no-cache|:authority: www.example.com"},
			{"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", "GET https /index.html www.example.com custom-key: custom-value", "custom-key: custom-value|cache-control: no-cache|:authority: www.example.com"},
		}},
		{responseForm, 256, [][3]string{
			{"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3", "302 cache-control: private date: Mon, 21 Oct 2013 20:13:21 GMT location: https://www.example.com",
				"location: https://www.example.com|date: Mon, 21 Oct 2013 20:13:21 GMT|cache-control: private|:status: 302"},
			{"4883640effc1c0bf", "307 cache-control: private date: Mon, 21 Oct 2013 20:13:21 GMT location: https://www.example.com",
				":status: 307|location: https://www.example.com|date: Mon, 21 Oct 2013 20:13:21 GMT|cache-control: private"},
		}},
	} {
		var d decoder
		d.init()
		d.table.setMax(series.size)
		for _, c := range series.heads {
			in, _ := hex.DecodeString(c[0])
			var h Head
			h.reset(series.form)
			d.begin()
			if err := d.decode(in, &h); err != nil || d.end() != nil || h.fault != "" {
				t.Fatal(c[0], err, h.fault)
			}
			got := fmt.Sprintf("%s %s %s %s", h.Method(), h.Scheme(), h.Path(), h.Authority())
			if series.form == responseForm {
				got = fmt.Sprint(h.Status())
			}
			got = strings.TrimSpace(got + " " + strings.TrimSpace(strings.ReplaceAll(string(h.lines), "\r\n", " ")))
			if got != c[1] || strings.Join(d.table.entriesOf(), "|") != c[2] {
				t.Errorf("%s:\n got %s, table %q\nwant %s, table %s", c[0], got, d.table.entriesOf(), c[1], c[2])
			}
		}
	}
}

// What our encoder writes, an independent decoder reads; tables stay equal under all
// sizes that a peer may ask for.
func TestWhatIsEncodedIsReadByAnother(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var e encoder
	e.init()
	d := hpack.NewDecoder(tableSize, nil)
	names := []string{":method", ":path", ":status", "accept", "accept-encoding", "cookie", "authorization", "x-request-id", "content-type", "set-cookie", "x"}
	indexed := 0
	for range 3000 {
		if r.IntN(20) == 0 {
			for range 1 + r.IntN(3) {
				e.limit(r.Uint32N(2 * tableSize))
			}
		}
		var want []hpack.HeaderField
		out := e.begin(nil)
		for range r.IntN(12) {
			f := hpack.HeaderField{Name: names[r.IntN(len(names))], Value: []string{"GET", "/", "200", "gzip, deflate", "", strings.Repeat("v", r.IntN(1<<r.IntN(13))), fmt.Sprint(r.IntN(10))}[r.IntN(7)]}
			if r.IntN(10) == 0 {
				f.Name = strings.Repeat("n", 1+r.IntN(300))
			}
			f.Sensitive = secret([]byte(f.Name))
			want = append(want, f)
			out = e.field(out, []byte(f.Name), []byte(f.Value))
		}
		got, err := d.DecodeFull(out)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v\n got %v\nwant %v", err, got, want)
		}
		if e.table.size > e.table.max || len(e.table.bytes) > maxArena {
			t.Fatal(e.table.size, e.table.max, len(e.table.bytes))
		}
		indexed += e.table.len()
	}
	if indexed == 0 {
		t.Fatal("nothing was indexed")
	}
}

func TestEachNameOfTheStaticTableIsFound(t *testing.T) {
	for i, f := range staticTable[1:] {
		first := 1 + slices.IndexFunc(staticTable[1:], func(g staticField) bool { return string(g.name) == string(f.name) })
		if got := staticName(f.name); got != first {
			t.Errorf("%d %q: found at %d, want %d", 1+i, f.name, got, first)
		}
		for _, other := range [][]byte{f.name[1:], append(f.name[:1:1], f.name...), append([]byte("x"), f.name[1:]...)} {
			if got := staticName(other); got != 0 && string(staticTable[got].name) != string(other) {
				t.Errorf("%q is found at %d", other, got)
			}
		}
	}
	if staticName(nil) != 0 {
		t.Error("an empty name is found")
	}
}

func TestSecretsAndWhatComesOnceStayOutOfTheTable(t *testing.T) {
	var e encoder
	e.init()
	for i := range 50 {
		for _, f := range [][2]string{{"authorization", "Bearer x"}, {"cookie", "a=b"}, {"set-cookie", "c=d"}, {"proxy-authorization", "y"}, {"x-request-id", fmt.Sprint("id-", i)}, {"content-type", "application/grpc"}} {
			e.field(nil, []byte(f[0]), []byte(f[1]))
		}
	}
	if got := e.table.entriesOf(); !slices.Equal(got, []string{"content-type: application/grpc"}) {
		t.Fatal(got)
	}
}

func TestHuffmansCodeIsReadAsAnotherWritesIt(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		want := make([]byte, r.IntN(40))
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		got, ok := appendHuffman(nil, hpack.AppendHuffmanString(nil, string(want)))
		if !ok || !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	for _, bad := range []string{"\xff", "\xff\xff\xff\xff", "\x1f\xff", "\xfe", "\x00"} {
		_, ok := appendHuffman(nil, []byte(bad))
		if _, err := hpack.HuffmanDecodeToString([]byte(bad)); ok != (err == nil) {
			t.Errorf("%x: %v, x/net says %v", bad, ok, err)
		}
	}
}

// FuzzHPACK reads blocks, one behind the other, with our decoder and with x/net's. The
// first byte of a part says how long it is. They disagree, as explained here, on:
//
//   - integers of more than five bytes, which x/net reads up to ten of (RFC 7541 §5.1
//     leaves the bound to the reader);
//   - updates of the table's size behind a field while the table is empty, and more than
//     two of them, which x/net lets pass (§4.2 forbids both); and two of them while the table
//     is not empty, which x/net refuses (§4.2 allows them);
//   - blocks of more than maxBlockFields fields.
func FuzzHPACK(f *testing.F) {
	for _, s := range []string{"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "3fe11f20", "400161016282be", "0001610162", "10016101628080", "7f81808080808000"} {
		b, _ := hex.DecodeString(s)
		f.Add(append([]byte{byte(len(b))}, b...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var d decoder
		d.init()
		x := hpack.NewDecoder(tableSize, nil)
		x.SetMaxStringLength(MaxHeadSize)
		for len(in) > 1 {
			n := min(1+int(in[0]), len(in)-1)
			part := in[1 : 1+n]
			in = in[1+n:]
			want, wantErr := x.DecodeFull(part)
			var h Head
			h.reset(trailerForm)
			d.begin()
			err := d.decode(part, &h)
			if err == nil {
				err = d.end()
			}
			switch {
			case errors.Is(err, ErrHPACKInteger), errors.Is(err, ErrTableUpdate), errors.Is(err, ErrBomb), d.updates > 1:
				return
			case (err == nil) != (wantErr == nil):
				t.Fatalf("%x: we say %v, x/net says %v", part, err, wantErr)
			case err != nil:
				return
			case d.fields != len(want):
				t.Fatalf("%x: %d fields, x/net has %d", part, d.fields, len(want))
			}
			// The tables are equal: every index means the same.
			for i := range d.table.len() + 1 {
				block := appendHpackInt(nil, 0x80, 7, len(staticTable)+i)
				theirs, err := x.DecodeFull(block)
				if i == d.table.len() {
					if err == nil {
						t.Fatalf("%x: x/net's table has more than %d entries", part, i)
					}
					x.Close()
					break
				}
				name, value := d.table.at(i)
				if err != nil || theirs[0].Name != string(name) || theirs[0].Value != string(value) {
					t.Fatalf("%x: entry %d is %q: %q, x/net has %v, %v", part, i, name, value, theirs, err)
				}
			}
		}
	})
}

// Blocks that come in pieces mean what they mean whole.
func TestABlockInPiecesMeansTheSame(t *testing.T) {
	whole := get("x-long: "+strings.Repeat("y", 300), "b: c") + "\x40\x81\x1f\x81\x1f\xbe"
	read := func(piece int) (string, error) {
		var d decoder
		d.init()
		var h Head
		h.reset(requestForm)
		d.begin()
		for part := range slices.Chunk([]byte(whole), piece) {
			if err := d.decode(bytes.Clone(part), &h); err != nil {
				return "", err
			}
		}
		return string(h.AppendRequestText(nil)), d.end()
	}
	want, err := read(len(whole))
	if err != nil || !strings.Contains(want, "a: a\r\na: a\r\n") {
		t.Fatal(want, err)
	}
	for piece := 1; piece < len(whole); piece++ {
		if got, err := read(piece); got != want || err != nil {
			t.Fatalf("pieces of %d: %v\n got %q\nwant %q", piece, err, got, want)
		}
	}
}
