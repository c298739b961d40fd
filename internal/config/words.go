package config

import (
	"fmt"
	"slices"
	"strings"
)

// words is a type whose values are a few words.
type words[T ~string] interface {
	~string
	Choices() []T
}

// choose reads one of the words of a type.
func choose[T words[T]](to *T, b []byte) error {
	if v := T(b); slices.Contains(v.Choices(), v) {
		*to = v
		return nil
	}
	return fmt.Errorf("%q is no choice: write %s", b, orList((*to).Choices()))
}

// orList joins words: a, b or c.
func orList[T ~string](choices []T) string {
	var all strings.Builder
	for i, c := range choices {
		switch {
		case i > 0 && i == len(choices)-1:
			all.WriteString(" or ")
		case i > 0:
			all.WriteString(", ")
		}
		all.WriteString(string(c))
	}
	return all.String()
}
