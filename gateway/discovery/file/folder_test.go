package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func scanned(t *testing.T, f *folder) (changed bool) {
	t.Helper()
	changed, err := f.scan()
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// age sets when the file was last changed.
func age(t *testing.T, path string, modified time.Time) {
	t.Helper()
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeOfOneFileReadsThatFile(t *testing.T) {
	dir := t.TempDir()
	f := &folder{dir: dir, files: map[string]*entry{}}
	for _, name := range []string{"a", "b"} {
		put(t, dir, name+".yaml", strings.ReplaceAll(orders, "orders", name))
		age(t, filepath.Join(dir, name+".yaml"), time.Now().Add(-time.Hour))
	}
	if !scanned(t, f) {
		t.Error("nothing is new at the start")
	}
	a, b := *f.files["a.yaml"], *f.files["b.yaml"]
	if scanned(t, f) || f.files["a.yaml"].read != a.read {
		t.Error("files that nobody touched are read again")
	}
	put(t, dir, "b.yaml", strings.ReplaceAll(orders, "orders", "c"))
	if !scanned(t, f) {
		t.Error("a change is not seen")
	}
	if f.files["a.yaml"].read != a.read || f.files["b.yaml"].read == b.read || f.files["b.yaml"].loaded == b.loaded {
		t.Error("not the file that has changed was read, or another one with it")
	}
	touched := f.files["b.yaml"].loaded
	age(t, filepath.Join(dir, "b.yaml"), time.Now().Add(-2*time.Hour))
	if scanned(t, f) || f.files["b.yaml"].loaded != touched {
		t.Error("a file that was touched and says the same is parsed again")
	}
}

func TestAChangeWithinOneTickOfTheClockAndOfTheSameSizeIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	f := &folder{dir: dir, files: map[string]*entry{}}
	tick := time.Now().Truncate(time.Second)
	put(t, dir, "a.yaml", orders)
	age(t, path, tick)
	scanned(t, f)
	put(t, dir, "a.yaml", strings.ReplaceAll(orders, "10.0.1.7", "10.0.1.9"))
	age(t, path, tick)
	if !scanned(t, f) || f.services()[0].Service.Ports[0].Endpoints[0].Address != "10.0.1.9:8080" {
		t.Error("a file of the same size, time and inode was taken for the same")
	}
	age(t, path, tick.Add(-time.Hour))
	scanned(t, f)
	if err := os.Rename(path, filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a.yaml", orders)
	age(t, path, tick.Add(-time.Hour))
	if !scanned(t, f) || f.services()[0].Service.Ports[0].Endpoints[0].Address != "10.0.1.7:8080" {
		t.Error("another file under the same name, of the same size and time, was taken for the same")
	}
}

func TestAFileThatCannotBeReadForAWhileIsNoChangeTwiceAndComesBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	f := &folder{dir: dir, files: map[string]*entry{}}
	put(t, dir, "a.yaml", orders)
	scanned(t, f)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if !scanned(t, f) || f.files["a.yaml"].err == nil || len(f.services()) != 1 {
		t.Error("it is not said to be unreadable, or its last good state is gone")
	}
	if scanned(t, f) {
		t.Error("still unreadable is called a change")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a.yaml", orders)
	if !scanned(t, f) || f.files["a.yaml"].err != nil {
		t.Errorf("it came back, and still: %v", f.files["a.yaml"].err)
	}
}
