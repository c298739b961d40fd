package http2

// blockStart is what is known of a field block before it is read.
type blockStart struct {
	form    headForm
	stream  uint32
	end     bool // END_STREAM
	ignored bool // decoded for the sake of the table alone
	drained bool // and the first that is, see calm
	// A fault that was found before the block: it is decoded nevertheless.
	code  Code
	fault string
}

// fieldBlock reads the field block (RFC 9113 §4.3) of one head after another, in pieces: HEADERS
// and what CONTINUATION frames follow.
type fieldBlock struct {
	blockStart
	size    int  // in bytes, and continuationCost for each CONTINUATION
	head    Head // what the block says
	decoder decoder
}

func (b *fieldBlock) begin(start blockStart) {
	b.blockStart, b.size = start, 0
	b.head.reset(start.form)
	b.decoder.begin()
}

// add reads the next piece; last says that the block is whole then.
func (b *fieldBlock) add(p []byte, last bool) error {
	if b.size += len(p); b.size > maxBlock {
		return ErrContinuations
	}
	if err := b.decoder.decode(p, &b.head); err != nil || !last {
		return err
	}
	return b.decoder.end()
}

// trim gives back the memory that heads need.
func (b *fieldBlock) trim() {
	b.head, b.decoder.scratch, b.decoder.carry = Head{}, nil, nil
}
