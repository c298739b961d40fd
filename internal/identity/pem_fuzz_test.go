package identity

import (
	"encoding/pem"
	"testing"
)

func FuzzPEM(f *testing.F) {
	// Fixed input, so that all fuzzing processes begin with the same.
	block := func(kind string, data string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(data)}))
	}
	for _, s := range []string{
		"", "x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
		block("CERTIFICATE", "\x30\x82\xff\xff"), block("PRIVATE KEY", "\x30\x00"), block("EC PRIVATE KEY", "\x30\x03\x02\x01\x01"),
		block("EC PARAMETERS", "\x06\x08"), block("EC PARAMETERS", "") + block("RSA PRIVATE KEY", "\x30\x00"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if certs, err := parseCertificates(b); (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		if key, err := parseKey(b); (err == nil) != (key != nil) {
			t.Errorf("key %v, %v", key, err)
		}
	})
}
