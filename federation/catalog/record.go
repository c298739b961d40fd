package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// record is one thing that an origin says. Its name is that of a service that the origin
// exports, "namespace/name", or of a thing of a kind that this version does not know,
// which has a colon in it: such a one is kept and handed on, and means nothing here.
type record struct {
	name   string
	seq    uint64 // of the change that wrote it
	raw    []byte // compact JSON, as the origin wrote it
	export *mesh.Export
	sum    [sha256.Size]byte
}

// newRecord checks raw, which it keeps.
func newRecord(name string, seq uint64, raw []byte) (*record, error) {
	r := &record{name: name, seq: seq, raw: raw}
	if len(raw) > MaxRecordBytes {
		return nil, fmt.Errorf("record of %d bytes: at most %d", len(raw), MaxRecordBytes)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if !strings.Contains(name, ":") {
		e, err := parseExport(raw)
		if err != nil {
			return nil, err
		}
		if e.Service.String() != name {
			return nil, fmt.Errorf("record %q is of service %s", name, e.Service)
		}
		r.export = &e
	}
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(name))))
	h.Write([]byte(name))
	h.Write(binary.BigEndian.AppendUint64(nil, seq))
	h.Write(raw)
	h.Sum(r.sum[:0])
	return r, nil
}

// checkName refuses what cannot name a record.
func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return fmt.Errorf("record with a name of %d bytes: 1 to %d", len(name), maxNameBytes)
	}
	if strings.Contains(name, ":") {
		return nil
	}
	_, err := mesh.ParseServiceName(name)
	return err
}

// parseExport reads a record's JSON within bounds. Fields that this version does
// not know are ignored: a newer gateway's catalog must not be lost to an older one.
// So are ports whose protocol is no word; see [mesh.ReadProtocol].
func parseExport(raw []byte) (mesh.Export, error) {
	var e mesh.Export
	if err := json.Unmarshal(raw, &e); err != nil {
		return mesh.Export{}, fmt.Errorf("record: %w", err)
	}
	if e.Service == (mesh.ServiceName{}) {
		return mesh.Export{}, errors.New("record without a service")
	}
	if len(e.Ports) > MaxPorts {
		return mesh.Export{}, fmt.Errorf("record %s: %d ports: at most %d", e.Service, len(e.Ports), MaxPorts)
	}
	if c := e.ClusterSet; c != nil && len(c.Ports) > MaxPorts {
		return mesh.Export{}, fmt.Errorf("record %s: %d ports in its ServiceExport: at most %d", e.Service, len(c.Ports), MaxPorts)
	}
	known := e.Ports[:0]
	seen := make(map[uint16]bool, len(e.Ports))
	for _, p := range e.Ports {
		if p.Port == 0 || seen[p.Port] {
			return mesh.Export{}, fmt.Errorf("record %s: port %d is zero or there twice", e.Service, p.Port)
		}
		seen[p.Port] = true
		if len(p.Identities) > MaxIdentities {
			return mesh.Export{}, fmt.Errorf("record %s: port %d: %d identities: at most %d", e.Service, p.Port, len(p.Identities), MaxIdentities)
		}
		for _, id := range p.Identities {
			if len(id) > maxIdentityBytes {
				return mesh.Export{}, fmt.Errorf("record %s: port %d: identity of %d bytes: at most %d", e.Service, p.Port, len(id), maxIdentityBytes)
			}
		}
		var err error
		if p.Protocol, err = mesh.ReadProtocol(string(p.Protocol)); err == nil {
			known = append(known, p)
		}
	}
	e.Ports = known
	return e, nil
}

// compactJSON returns raw without insignificant space, in memory of its own.
func compactJSON(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return b.Bytes(), nil
}
