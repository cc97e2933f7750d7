package pmem

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWarmTouchesAllOfAResidentFile(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "whale-warm")
	if err != nil {
		t.Skipf("needs a memory file system: %v", err)
	}
	defer os.RemoveAll(dir)
	const size = 32 << 20
	f, err := Map(filepath.Join(dir, "memory"), size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !f.Resident() {
		t.Fatal("a file in memory is not resident")
	}
	f.Store64(size-8, 7)
	missing := func() int { return size/pageSize - present(t, f) }
	if missing() == 0 {
		t.Fatal("nothing to be warmed: the test could not fail")
	}
	f.Warm(20 << 20)
	for until := time.Now().Add(time.Minute); missing() > 0; {
		if time.Now().After(until) {
			t.Fatalf("%d pages are missing", missing())
		}
	}
	if f.Load64(size-8) != 7 {
		t.Fatal("warming changed a byte")
	}
	f.Warm(0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCloseWhileWarming(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "whale-warm")
	if err != nil {
		t.Skipf("needs a memory file system: %v", err)
	}
	defer os.RemoveAll(dir)
	for range 20 {
		f, err := Map(filepath.Join(dir, "memory"), 64<<20, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.Warm(0)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		os.Remove(f.Name())
	}
}

func TestWarmKnowsWhatItHasTouched(t *testing.T) {
	var w warmth
	has := func(off, end uint64, want bool) {
		t.Helper()
		if got := w.has(off, end-off); got != want {
			t.Errorf("touched were [%d, %d) and [0, %d): [%d, %d) is said to be touched: %v", w.from.Load(), w.high.Load(), w.low.Load(), off, end, got)
		}
	}
	has(0, 1, false)
	w.from.Store(50)
	has(50, 51, false)
	w.high.Store(60)
	has(50, 60, true)
	has(52, 53, true)
	has(49, 51, false)
	has(59, 61, false)
	has(0, 1, false)
	w.high.Store(100)
	w.low.Store(20)
	has(0, 20, true)
	has(19, 21, false)
	has(40, 60, false)
	w.low.Store(50)
	has(40, 60, true)
	has(0, 100, true)
	has(0, 101, false)
}
