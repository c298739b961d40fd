package strictyaml

import (
	"fmt"
	"strings"
)

// unknownKey says that a key is not one of known, which is sorted, and which
// one may be meant.
func unknownKey(key string, known []string) string {
	if near := nearest(key, known); near != "" {
		return fmt.Sprintf("there is no such key: write %s", near)
	}
	return fmt.Sprintf("there is no such key: write one of %s", strings.Join(known, ", "))
}

// nearest returns the one of known that word is probably a misspelling of, or
// "" when none is close.
func nearest(word string, known []string) string {
	if len(word) > 64 {
		return ""
	}
	best, nearest := "", max(len(word)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < nearest {
			best, nearest = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour that make b of a (Damerau and Levenshtein's, in bytes).
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
