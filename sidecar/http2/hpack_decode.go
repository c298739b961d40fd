package http2

// decoder reads field blocks (RFC 7541). The library's makes a string of each name and
// value, which is most of what a head costs.
type decoder struct {
	table   hpackTable
	carry   []byte // a field that is not whole yet, across CONTINUATION
	scratch []byte // strings that were compressed, of one field
	fields  int    // of this block
	updates int    // of the table's size, in this block
}

func (d *decoder) init() { d.table.max = tableSize }

// begin starts a field block.
func (d *decoder) begin() { d.fields, d.updates = 0, 0 }

// end says whether the block ended with a whole field.
func (d *decoder) end() error {
	if len(d.carry) > 0 {
		return ErrHPACK
	}
	if cap(d.carry) > 0 {
		d.carry = nil // rare, and up to twice MaxHeadSize
	}
	if cap(d.scratch) > tableSize {
		d.scratch = nil
	}
	return nil
}

// decode reads a fragment of a block and hands the fields to h. What is not whole
// stays for the next fragment.
func (d *decoder) decode(p []byte, h *Head) error {
	if len(d.carry) > 0 {
		d.carry = append(d.carry, p...)
		p = d.carry
	}
	for len(p) > 0 {
		n, err := d.field(p, h)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		p = p[n:]
	}
	if len(p) == 0 {
		d.carry = d.carry[:0]
	} else if len(d.carry) > 0 {
		d.carry = d.carry[:copy(d.carry, p)]
	} else {
		d.carry = append(d.carry, p...)
	}
	return nil
}

// field reads one representation (RFC 7541 §6) and returns its length, 0 when it is
// not whole.
func (d *decoder) field(p []byte, h *Head) (int, error) {
	b := p[0]
	switch {
	case b&0x80 != 0: // indexed
		i, n, err := hpackInt(p, 7)
		if n == 0 || err != nil {
			return 0, err
		}
		name, value, err := d.at(i)
		if err != nil {
			return 0, err
		}
		return n, d.emit(h, name, value)
	case b&0xc0 == 0x40:
		return d.literal(p, 6, true, h)
	case b&0xe0 == 0x20: // size update: first in a block, once down and once up at most (§4.2)
		size, n, err := hpackInt(p, 5)
		if n == 0 || err != nil {
			return 0, err
		}
		if d.updates++; size > tableSize || d.updates > 2 || d.fields > 0 {
			return 0, ErrTableUpdate
		}
		d.table.setMax(size)
		return n, nil
	}
	return d.literal(p, 4, false, h) // without indexing, or never
}

func (d *decoder) emit(h *Head, name, value []byte) error {
	if d.fields++; d.fields > maxBlockFields {
		return ErrBomb
	}
	h.add(name, value)
	return nil
}

// at returns the field with the index; index 0 is none.
func (d *decoder) at(i int) (name, value []byte, err error) {
	switch {
	case i == 0:
		return nil, nil, ErrHPACK
	case i < len(staticTable):
		return staticTable[i].name, staticTable[i].value, nil
	case i-len(staticTable) < d.table.len():
		name, value = d.table.at(i - len(staticTable))
		return name, value, nil
	}
	return nil, nil, ErrHPACK
}

// literal reads a field whose value is spelled out, and perhaps its name.
func (d *decoder) literal(p []byte, prefix int, indexing bool, h *Head) (int, error) {
	i, n, err := hpackInt(p, prefix)
	if n == 0 || err != nil {
		return 0, err
	}
	var name, value hpackString
	if i == 0 {
		if name, err = hpackStringOf(p[n:]); name.n == 0 || err != nil {
			return 0, err
		}
		n += name.n
	}
	if value, err = hpackStringOf(p[n:]); value.n == 0 || err != nil {
		return 0, err
	}
	n += value.n
	d.scratch = d.scratch[:0]
	if i != 0 {
		if name.b, _, err = d.at(i); err != nil {
			return 0, err
		}
		if indexing && i >= len(staticTable) {
			name.b = d.keep(name.b) // the table may move it
		}
	} else if name.b, err = d.plain(name); err != nil {
		return 0, err
	}
	at := len(d.scratch)
	if value.b, err = d.plain(value); err != nil {
		return 0, err
	}
	if at > 0 && value.huffman {
		name.b = d.scratch[:at] // scratch may have grown
	}
	if err := d.emit(h, name.b, value.b); err != nil {
		return 0, err
	}
	if indexing {
		d.table.add(name.b, value.b, 0)
	}
	return n, nil
}

func (d *decoder) keep(b []byte) []byte {
	at := len(d.scratch)
	d.scratch = append(d.scratch, b...)
	return d.scratch[at:]
}

// plain returns what a string stands for, in scratch when it was compressed.
func (d *decoder) plain(s hpackString) ([]byte, error) {
	if !s.huffman {
		return s.b, nil
	}
	at := len(d.scratch)
	var ok bool
	if d.scratch, ok = appendHuffman(d.scratch, s.b); !ok {
		return nil, ErrHPACK
	}
	return d.scratch[at:], nil
}

// hpackString is a string literal (RFC 7541 §5.2); n is its length in the block.
type hpackString struct {
	b       []byte
	n       int
	huffman bool
}

// hpackStringOf reads the string that p begins with; n == 0: it is not whole.
func hpackStringOf(p []byte) (s hpackString, err error) {
	if len(p) == 0 {
		return s, nil
	}
	length, n, err := hpackInt(p, 7)
	switch {
	case n == 0 || err != nil:
		return s, err
	case length > MaxHeadSize:
		return s, ErrBomb
	case len(p)-n < length:
		return s, nil
	}
	return hpackString{p[n : n+length], n + length, p[0]&0x80 != 0}, nil
}

// hpackInt reads an integer with a prefix of so many bits (RFC 7541 §5.1); n == 0: it is
// not whole. Integers beyond 2²⁸ mean nothing here.
func hpackInt(p []byte, prefix int) (v, n int, err error) {
	mask := 1<<prefix - 1
	v = int(p[0]) & mask
	if v < mask {
		return v, 1, nil
	}
	for i := 1; i < len(p); i++ {
		if i > 4 {
			return 0, 0, ErrHPACKInteger
		}
		v += int(p[i]&0x7f) << (7 * (i - 1))
		if p[i]&0x80 == 0 {
			return v, i + 1, nil
		}
	}
	if len(p) > 4 {
		return 0, 0, ErrHPACKInteger
	}
	return 0, 0, nil
}
