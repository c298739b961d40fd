package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of an identity directory.
const (
	certFile  = "cert.pem"
	keyFile   = "key.pem"
	rootsFile = "roots.pem"
)

// bundleFile is the bundle in an identity directory or that of an authority; it may
// be missing.
const bundleFile = "bundle.json"

// howToIssue ends the errors about a directory that does not hold an identity.
const howToIssue = "make one with 'isthmus pki gateway' or 'isthmus pki workload' (see 'isthmus pki --help')"

// howToIssueAnew is what to do about a certificate in files that expires.
const howToIssueAnew = "issue a new one with 'isthmus pki'"

// inFile names the file of an identity directory that an error is about.
func inFile(dir, name string, err error) error {
	return fmt.Errorf("identity: %s: %w", filepath.Join(dir, name), err)
}

// files are the contents of an identity directory, by name.
type files map[string][]byte

// whole returns all of it, to see a change.
func (f files) whole() string {
	return string(f[certFile]) + string(f[keyFile]) + string(f[rootsFile]) + string(f[bundleFile])
}

// readFiles reads an identity directory.
func readFiles(dir string) (files, error) {
	if dir == "" {
		return nil, fmt.Errorf("identity: no directory is given: set identity: {dir: …}, or %s", howToIssue)
	}
	raw := make(files, 4)
	var faults []error
	for _, name := range []string{certFile, keyFile, rootsFile} {
		read := readBounded
		if name == keyFile {
			read = readKey
		}
		b, err := read(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", err, howToIssue)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("identity: %w", err))
		}
		raw[name] = b
	}
	b, err := readBundle(dir)
	if err != nil {
		faults = append(faults, fmt.Errorf("identity: %w", err))
	}
	raw[bundleFile] = b
	return raw, errors.Join(faults...)
}

// readBundle reads the bundle of a directory; nil: there need be none.
func readBundle(dir string) ([]byte, error) {
	b, err := readBounded(filepath.Join(dir, bundleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// parseFiles reads what an identity directory holds. Whether it is good is for [New].
func parseFiles(dir string, raw files) (m Material, err error) {
	var faults []error
	fault := func(name string, err error) {
		if err != nil {
			faults = append(faults, inFile(dir, name, err))
		}
	}
	m.Chain, err = parseCertificates(raw[certFile])
	fault(certFile, err)
	m.Key, err = parseKey(raw[keyFile])
	fault(keyFile, err)
	m.Roots, err = parseCertificates(raw[rootsFile])
	fault(rootsFile, err)
	m.Bundle = raw[bundleFile]
	return m, errors.Join(faults...)
}

// readBounded reads a file of at most maxFileSize bytes. The error of os names
// the path.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readOpen(f)
}

// readOpen is readBounded of a file that is open.
func readOpen(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFileSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", f.Name(), maxFileSize)
	}
	return b, nil
}

// parseCertificates reads one or more PEM certificates.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s, expected CERTIFICATE blocks only", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

// parseKey reads one PEM private key: PKCS #8, SEC 1 or PKCS #1. Parameters
// before it, as openssl ecparam writes them, are passed over.
func parseKey(b []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("holds no PEM private key (-----BEGIN PRIVATE KEY-----)")
		}
		b = rest
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: write it without a passphrase, readable by this user only")
		default:
			return nil, fmt.Errorf("holds a %s, expected a PRIVATE KEY", block.Type)
		}
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a %T cannot sign: use an ECDSA P-256 key", key)
		}
		return signer, nil
	}
}
