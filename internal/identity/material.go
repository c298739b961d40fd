package identity

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// The PEM block types of a material on disk.
const (
	keyBlock   = "PRIVATE KEY"
	chainBlock = "CERTIFICATE"
	rootBlock  = "ROOT CERTIFICATE" // not read as part of the chain
)

// SaveMaterial writes the material to a file, whole or not at all, that its owner only can
// read.
func SaveMaterial(path string, m Material) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	return wholefile.Write(path, b, 0o600)
}

// LoadMaterial reads what [SaveMaterial] has written. Its error names the file.
func LoadMaterial(path string) (Material, error) {
	b, err := readKey(path)
	if err != nil {
		return Material{}, err
	}
	m, err := ParseMaterial(b)
	if err != nil {
		return Material{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Encode writes the material for [ParseMaterial], as one text: a key without its
// certificate is nobody, so that a process which keeps both keeps them together. What is
// missing is left out.
func (m Material) Encode() ([]byte, error) {
	b, err := encodeKey(m.Key)
	if err != nil {
		return nil, err
	}
	b = append(b, encodeCertificates(m.Chain)...)
	for _, r := range m.Roots {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: rootBlock, Bytes: r.Raw})...)
	}
	return b, nil
}

// ParseMaterial reads what [Material.Encode] has written. Whether it is good is for [New].
func ParseMaterial(b []byte) (m Material, err error) {
	if len(b) > maxFileSize {
		return m, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	if m.Key, err = parseKey(b); err != nil {
		return m, err
	}
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return m, nil
		}
		b = rest
		into := &m.Chain
		switch block.Type {
		case keyBlock:
			continue
		case rootBlock:
			into = &m.Roots
		case chainBlock:
		default:
			return m, fmt.Errorf("holds a %s, expected %s, %s and %s", block.Type, keyBlock, chainBlock, rootBlock)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return m, fmt.Errorf("%s: %w", block.Type, err)
		}
		*into = append(*into, c)
	}
}
