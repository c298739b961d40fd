package xds

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxAddresses bounds the addresses of one service: Kubernetes gives one per family.
const maxAddresses = 8

// formatAddresses writes addresses as "10.43.0.5 fd00::5".
func formatAddresses(all []netip.Addr) string {
	words := make([]string, len(all))
	for i, a := range all {
		words[i] = a.String()
	}
	return strings.Join(words, " ")
}

// parseAddresses reads what formatAddresses writes.
func parseAddresses(s string) (all []netip.Addr, err error) {
	if s == "" {
		return nil, nil
	}
	if n := strings.Count(s, " ") + 1; n > maxAddresses {
		return nil, fmt.Errorf("%d addresses, at most %d are read", n, maxAddresses)
	}
	for word := range strings.SplitSeq(s, " ") {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", word, err)
		}
		all = append(all, a)
	}
	return all, nil
}
