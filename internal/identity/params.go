package identity

import "time"

// Lifetimes of what 'isthmus pki' issues into files. Nobody renews these, so they are as
// long as an operator can be expected to come back; what a CA issues lives shorter.
const (
	DefaultRootTTL    = 10 * 365 * 24 * time.Hour
	DefaultClusterTTL = 365 * 24 * time.Hour
	DefaultLeafTTL    = 30 * 24 * time.Hour
)

const (
	// backdate is how long before its making a certificate is already valid,
	// so that a peer whose clock is behind accepts it at once.
	backdate = time.Hour

	// settle is how long a directory must be quiet before its files are read
	// again: certificate, key and roots are written one after the other.
	settle = 300 * time.Millisecond

	// pollEvery is how often the files are read without any notice, for file
	// systems and bind mounts that send none.
	pollEvery = 30 * time.Second

	// warnBefore is how long before its expiry a certificate is warned about,
	// at every warnEvery.
	warnBefore = 7 * 24 * time.Hour
	warnEvery  = 6 * time.Hour

	// maxFileSize bounds each PEM file, in bytes: about 500 roots.
	maxFileSize = 1 << 20

	// maxChain bounds the certificates of a peer or a signature: a leaf and
	// what a nested SPIRE deployment puts above it.
	maxChain = 8

	// maxCertificate bounds one certificate of a signature, in bytes of DER.
	maxCertificate = 16 << 10

	// maxRSABits is the limit of crypto/tls: checking a larger key's signature
	// costs a peer nothing and us a lot.
	maxRSABits = 8192

	// maxSignature bounds a signature, in bytes: that of the largest RSA key.
	maxSignature = maxRSABits / 8
)
