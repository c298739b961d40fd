package resident

import (
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

func TestPagesOfTheExecutableThatTheStartTouchedAreNoMemoryOfTheProcess(t *testing.T) {
	before := fileBackedKB(t)
	if err := Release(); err != nil {
		t.Fatal(err)
	}
	runtime.GC() // what is needed comes back
	if after := fileBackedKB(t); after >= before {
		t.Errorf("%d kB of files are mapped, %d kB before", after, before)
	}
	for range 100 { // and the program still works
		if got := regexp.MustCompile(`a(b*)c`).FindStringSubmatch("xabbcx"); len(got) != 2 || got[1] != "bb" {
			t.Fatal(got)
		}
	}
}

// fileBackedKB returns how much of this process's memory is pages of files.
func fileBackedKB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatal("this kernel does not say RssFile")
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
