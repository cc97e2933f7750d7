package pmem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unsafe"
)

// What every implementation owes, in every domain that this machine has.

func forEachMemory(t *testing.T, size uint64, check func(t *testing.T, m Memory)) {
	t.Run("Anonymous", func(t *testing.T) {
		m, err := Anonymous(size)
		if err != nil {
			t.Fatal(err)
		}
		check(t, m)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	})
	for d := None; d <= EADR; d++ {
		t.Run(fmt.Sprintf("Heap/%v", d), func(t *testing.T) { check(t, HeapOf(size, d)) })
		t.Run(fmt.Sprintf("Simulated/%v", d), func(t *testing.T) { check(t, Simulate(size, d, 1)) })
		if _, err := flusherFor(d); err == nil && d != None {
			t.Run(fmt.Sprintf("File/%v", d), func(t *testing.T) { check(t, mapTemp(t, size, Options{Domain: d})) })
		}
	}
}

func mapTemp(t testing.TB, size uint64, o Options) *File {
	t.Helper()
	f, err := Map(filepath.Join(t.TempDir(), "memory"), size, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestMemoryIsAlignedZeroAndExact(t *testing.T) {
	for _, size := range []uint64{1, 63, 64, 65, 4096, 100_001} {
		forEachMemory(t, size, func(t *testing.T, m Memory) {
			b := m.Bytes()
			if uint64(len(b)) != size || cap(b) != len(b) {
				t.Fatalf("len %d, cap %d, expected %d", len(b), cap(b), size)
			}
			if a := uintptr(unsafe.Pointer(&b[0])); a%64 != 0 {
				t.Fatalf("starts at %#x", a)
			}
			if !bytes.Equal(b, make([]byte, size)) {
				t.Fatal("not zero")
			}
		})
	}
}

func TestWordsAreTheBytesLittleEndian(t *testing.T) {
	forEachMemory(t, 128, func(t *testing.T, m Memory) {
		m.Store64(72, 0x0807060504030201)
		if got := m.Bytes()[71:81]; !bytes.Equal(got, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 0}) {
			t.Fatalf("bytes %v", got)
		}
		if got := m.Load64(72); got != 0x0807060504030201 {
			t.Fatalf("loaded %#x", got)
		}
	})
}

// Every length and alignment up to 300, so that heads, whole lines and tails meet in all ways; and not a byte beside.
func TestCopyNTCopiesExactlyItsRange(t *testing.T) {
	src := make([]byte, 300)
	for i := range src {
		src[i] = byte(i%251) + 1
	}
	forEachMemory(t, 512, func(t *testing.T, m Memory) {
		if _, ok := m.(*Simulated); ok && testing.Short() {
			t.Skip()
		}
		want := make([]byte, 512)
		for n := range len(src) + 1 {
			for align := range 64 {
				clear(m.Bytes())
				clear(want)
				from := src[:n]
				copy(want[align+7:], from)
				m.CopyNT(uint64(align+7), from)
				m.Fence()
				if !bytes.Equal(m.Bytes(), want) {
					t.Fatalf("%d bytes to %d", n, align+7)
				}
			}
		}
		for skew := range 16 { // of the source
			clear(m.Bytes())
			m.CopyNT(0, src[skew:])
			if !bytes.Equal(m.Bytes()[:len(src)-skew], src[skew:]) {
				t.Fatalf("from a source at %d", skew)
			}
		}
	})
}

func TestPersistAnyRange(t *testing.T) {
	forEachMemory(t, 512, func(t *testing.T, m Memory) {
		for off := uint64(0); off <= 512; off += 13 {
			for n := uint64(0); off+n <= 512; n += 7 {
				m.Persist(off, n)
			}
			m.Fence()
		}
		if err := m.Sync(3, 500); err != nil {
			t.Fatal(err)
		}
		if err := m.Sync(512, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOutOfRangePanics(t *testing.T) {
	const max = ^uint64(0)
	for name, access := range map[string]func(m Memory){
		"Persist/behind":     func(m Memory) { m.Persist(64, 65) },
		"Persist/outside":    func(m Memory) { m.Persist(129, 0) },
		"Persist/huge n":     func(m Memory) { m.Persist(0, max) },
		"Persist/wraps":      func(m Memory) { m.Persist(64, max-32) },
		"Persist/wraps to 0": func(m Memory) { m.Persist(64, max-63) },
		"Persist/huge off":   func(m Memory) { m.Persist(max, 1) },
		"CopyNT/behind":      func(m Memory) { m.CopyNT(127, make([]byte, 2)) },
		"CopyNT/wraps":       func(m Memory) { m.CopyNT(max, make([]byte, 2)) },
		"Load64/behind":      func(m Memory) { m.Load64(128) },
		"Load64/wraps":       func(m Memory) { m.Load64(max - 7) },
		"Load64/unaligned":   func(m Memory) { m.Load64(4) },
		"Store64/behind":     func(m Memory) { m.Store64(128, 1) },
		"Store64/unaligned":  func(m Memory) { m.Store64(1, 1) },
		"Sync/behind":        func(m Memory) { m.Sync(0, 129) },
		"Sync/wraps":         func(m Memory) { m.Sync(64, max-32) },
		"Prefault/behind": func(m Memory) {
			if f, ok := m.(*File); ok {
				f.Prefault(0, 129)
			} else {
				panic("only files are prefaulted")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEachMemory(t, 128, func(t *testing.T, m Memory) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				access(m)
			})
		})
	}
}

// The last word of a memory that ends inside it is no word.
func TestWordOfAPartialTail(t *testing.T) {
	forEachMemory(t, 20, func(t *testing.T, m Memory) {
		m.Store64(8, 1)
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		m.Load64(16)
	})
}

func TestNothingAllocates(t *testing.T) {
	src := make([]byte, 1000)
	forEachMemory(t, 8192, func(t *testing.T, m Memory) {
		if _, ok := m.(*Simulated); ok {
			t.Skip("the model allocates")
		}
		if n := testing.AllocsPerRun(100, func() {
			m.CopyNT(3, src)
			m.Persist(3, 1000)
			m.Fence()
			m.Store64(8, m.Load64(16))
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestDomainNames(t *testing.T) {
	if got := fmt.Sprint(None, FileShared, FileSynced, ADR, EADR, Domain(9)); got != "None FileShared FileSynced ADR EADR Domain(9)" {
		t.Error(got)
	}
}
