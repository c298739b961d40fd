package dns

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// The file of virtual addresses reads like /etc/hosts:
//
//	# isthmus virtual addresses 1
//	240.66.18.52 fd69:7374:6d75::1234 orders.shop.mesh
//
// A new name is appended with one write, before it is answered, so that a kill at
// any moment loses nothing. Synced it is not: what a crash of the machine
// loses, it takes from the program as well.
const tableHeader = "# isthmus virtual addresses 1\n"

// maxLine and maxTableFile bound what is read back, in bytes: two addresses and a
// host name, for every slot.
const (
	maxLine      = 15 + 1 + 39 + 1 + 253 + 1
	maxTableFile = slots * maxLine
)

// appendLine appends the line for d in s.
func appendLine(b []byte, d mesh.Destination, s slot) []byte {
	b = s.v4().AppendTo(b)
	b = append(b, ' ')
	b = s.v6().AppendTo(b)
	b = append(b, ' ')
	b = append(b, d.Host()...)
	return append(b, '\n')
}

// parseLine reads what appendLine wrote, without the line's end.
func parseLine(line string) (mesh.Destination, slot, error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return mesh.Destination{}, 0, errors.New("not an IPv4 address, an IPv6 address and a name")
	}
	v4, err4 := netip.ParseAddr(fields[0])
	v6, err6 := netip.ParseAddr(fields[1])
	d, err := mesh.ParseHost(fields[2])
	if err := errors.Join(err4, err6, err); err != nil {
		return mesh.Destination{}, 0, err
	}
	s, ok := slotOf(v4)
	if !ok || v4 != s.v4() || v6 != s.v6() {
		return mesh.Destination{}, 0, fmt.Errorf("%s and %s are not a pair of virtual addresses", v4, v6)
	}
	return d, s, nil
}

// marshal returns the whole file, ordered by slot.
func (a *addresses) marshal() []byte {
	b := []byte(tableHeader)
	all := make([]slot, 0, len(a.names))
	for s := range a.names {
		all = append(all, s)
	}
	slices.Sort(all)
	for _, s := range all {
		b = appendLine(b, a.names[s], s)
	}
	return b
}

// unmarshal reads a file into an empty a, and all of it that is good even when it
// returns an error, which joins what was not.
func (a *addresses) unmarshal(r io.Reader) error {
	var faults []error
	lines := bufio.NewReaderSize(r, 2*maxLine)
	for n := 1; len(faults) < 8; n++ { // a foreign file is foreign after eight lines
		b, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(b) == 0 {
			break
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the last line is torn")
			}
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
			break
		}
		if n == 1 {
			if !bytes.Equal(b, []byte(tableHeader)) {
				return fmt.Errorf("the first line is %.40q, this program writes %q", b, tableHeader)
			}
			continue
		}
		d, s, err := parseLine(string(b[:len(b)-1]))
		if err == nil && !a.put(d, s) {
			err = fmt.Errorf("%s or its address is there twice", d.Host())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
		}
	}
	return errors.Join(faults...)
}

// readTable reads the file at path. A missing file is an empty table. Damage is
// not fatal: damaged says what was left out.
func readTable(path string) (a addresses, damaged, err error) {
	a = newAddresses()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil, nil
	}
	if err != nil {
		return a, nil, err
	}
	defer f.Close()
	return a, a.unmarshal(io.LimitReader(f, maxTableFile+int64(len(tableHeader)))), nil
}

// replaceTable writes the whole file so that a crash leaves the old or the new, and
// opens it for appending.
func replaceTable(path string, content []byte) (*os.File, error) {
	if err := wholefile.Write(path, content, 0o600); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
}
