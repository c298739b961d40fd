package exchange

import (
	"fmt"
	"testing"
)

func TestAChunkIsFramedWhereItsPayloadIs(t *testing.T) {
	for _, n := range []int{1, 15, 16, 255, 256, 4095, 4096, 0xffff} {
		b := make([]byte, sizeRoom+n+2)
		for i := range n {
			b[sizeRoom+i] = byte('a' + i%26)
		}
		payload := string(b[sizeRoom : sizeRoom+n])
		if got, want := string(b[:frame(b, n)]), fmt.Sprintf("%x\r\n%s\r\n", n, payload); got != want {
			t.Errorf("%d bytes became %.20q", n, got)
		}
	}
}
