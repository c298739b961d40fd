package http1

import "github.com/isthmus-mesh/isthmus/internal/mesh"

// What the next hop is told, field by field, whatever it speaks. [AppendRequest] and
// [AppendResponse] print these fields with what HTTP/1.1 says of a connection and of the
// framing; HTTP/2 has its own way for that.

// Field is a field of the head for the next hop: one that came, or one of the mesh.
type Field struct {
	came, value []byte // as they came
	name, text  string // of the mesh: the name as it is printed, with ": "; and the value if it is not in value
	rule        string // of a rule: the name, without; its value is text
}

// Is reports whether the field came and is called name, which is in lower case.
func (f Field) Is(name string) bool { return equalFold(f.came, name) }

// In returns the name, in either case, and the value. What is not in one piece already is
// appended to scratch, which is returned with it.
func (f Field) In(scratch []byte) (name, value, _ []byte) {
	if f.came != nil {
		return f.came, f.value, scratch
	}
	from := len(scratch)
	if f.rule != "" {
		scratch = append(scratch, f.rule...)
	} else {
		scratch = append(scratch, f.name[:len(f.name)-len(": ")]...)
	}
	name, from = scratch[from:], len(scratch)
	if f.text == "" {
		return name, f.value, scratch
	}
	scratch = append(scratch, f.text...)
	return name, scratch[from:], scratch
}

// appendLine appends the field of the mesh as HTTP/1.1 prints it.
func (f Field) appendLine(dst []byte) []byte {
	if f.rule != "" {
		dst = append(append(dst, f.rule...), ": "...)
	}
	dst = append(append(dst, f.name...), f.value...)
	return append(append(dst, f.text...), '\r', '\n')
}

// EachField calls yield with every field of the request for the next hop but the host and
// what is about the connection. What is yielded is good until yield returns.
func (r *Request) EachField(o *RequestRewrite, yield func(Field)) {
	r.passing(o, func(f *field) {
		if f.kind != upgrade {
			yield(Field{came: r.bytes(f.name), value: r.bytes(f.value)})
		}
	})
	if r.TakesTrailers() {
		yield(Field{name: "te: ", text: "trailers"})
	}
	r.added(o, yield)
}

// passing calls yield with the fields that pass as they came.
func (r *Request) passing(o *RequestRewrite, yield func(*field)) {
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		if r.passes(f.kind, o.Outside) && (f.kind != grpcTimeout || o.GRPCTimeout == nil) && (o.Fields == nil || !r.isReplaced(f, o.Fields)) {
			yield(f)
		}
	}
}

// isReplaced reports whether a rule removes a field, or sets another one of its name.
func (h *head) isReplaced(f *field, by *mesh.Fields) bool {
	name := h.bytes(f.name)
	for _, removed := range by.Remove {
		if equalFold(name, removed) {
			return true
		}
	}
	for i := range by.Set {
		if equalFold(name, by.Set[i].Name) {
			return true
		}
	}
	return false
}

// addedBy calls yield with the fields that a rule sets and adds.
func addedBy(f *mesh.Fields, yield func(Field)) {
	if f == nil {
		return
	}
	for i := range f.Set {
		yield(Field{rule: f.Set[i].Name, text: f.Set[i].Value})
	}
	for i := range f.Add {
		yield(Field{rule: f.Add[i].Name, text: f.Add[i].Value})
	}
}

// added calls yield with the fields that the mesh adds.
func (r *Request) added(o *RequestRewrite, yield func(Field)) {
	if !r.hasID && len(o.RequestID) > 0 {
		yield(Field{name: requestIDField, value: o.RequestID})
	}
	if (!r.hasProto || o.Outside) && o.Proto != "" {
		yield(Field{name: forwardedProtoField, text: o.Proto})
	}
	if o.GRPCTimeout != nil {
		yield(Field{name: grpcTimeoutField, value: o.GRPCTimeout})
	}
	if o.Outside && o.ForwardedFor != "" {
		yield(Field{name: forwardedForField, text: o.ForwardedFor})
	}
	if o.ClientCert != "" {
		yield(Field{name: clientCertField, text: o.ClientCert})
	}
	addedBy(o.Fields, yield)
}

// EachField calls yield with every field of the response for the client but what is about
// the connection. What is yielded is good until yield returns.
func (r *Response) EachField(b *ResponseRewrite, yield func(Field)) {
	r.passing(b, func(f *field) {
		if f.kind != upgrade || r.Status == 426 {
			yield(Field{came: r.bytes(f.name), value: r.bytes(f.value)})
		}
	})
	r.added(b, yield)
}

// passing calls yield with the fields that pass as they came.
func (r *Response) passing(b *ResponseRewrite, yield func(*field)) {
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		switch f.kind {
		case transferEncoding, connection, hopByHop, te, listedHopByHop:
			continue
		case contentLength:
			// RFC 9110 §8.6: never in 1xx and 204.
			if r.Status < 200 || r.Status == 204 {
				continue
			}
		case upgrade:
			// 426 names what the server wants by Upgrade.
			if r.Status != 426 && r.Upgraded() == nil {
				continue
			}
		}
		if b.Fields != nil && r.isReplaced(f, b.Fields) {
			continue
		}
		yield(f)
	}
}

// added calls yield with the fields that the mesh adds.
func (r *Response) added(b *ResponseRewrite, yield func(Field)) {
	if b.Via != "" && r.proxyStatus != (span{}) {
		yield(Field{name: proxyStatusField, text: b.Via})
	}
	if b.Date != "" && !r.hasDate && r.Status >= 200 {
		yield(Field{name: dateField, text: b.Date})
	}
	addedBy(b.Fields, yield)
}

// extend grows the run of lines to copy by one, or flushes it and starts anew, so
// that lines that follow each other are copied at once.
func (h *head) extend(dst []byte, run, line span) ([]byte, span) {
	if run.to == line.from {
		return dst, span{run.from, line.to}
	}
	return append(dst, h.bytes(run)...), line
}

func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

func appendString(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}
