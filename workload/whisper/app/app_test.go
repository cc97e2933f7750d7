package app_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/timing"
	"whale/workload"
	"whale/workload/whisper/app"
)

const size = 256 << 10

var spec = app.Spec{Name: "some", Params: []uint64{7}, Pool: ptx.Options{Root: 64, Lanes: 4, LogSize: 1024}}

// data are those of spec, on a memory.
func data(t *testing.T, m pmem.Memory, o mirror.Options) *app.Data {
	t.Helper()
	r, err := mirror.Open(context.Background(), m, nil, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Create(r, func(*app.Data) error { return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := spec.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOwned: blocks that are lost, used twice, or used and free are told apart from those that are right.
func TestOwned(t *testing.T) {
	d := data(t, pmem.HeapOf(mirror.HeadSize+size, pmem.ADR), mirror.Options{})
	var a, b uint64
	err := d.Do(func(tx *ptx.Tx) (err error) {
		if a, err = tx.Alloc(40); err != nil {
			return err
		}
		b, err = tx.Alloc(40000)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for want, used := range map[string][]uint64{"": {b, a}, "nothing refers": {a}, "twice": {a, b, a}, "not allocated": {a, b, a + 48}} {
		err := d.Owned(used)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, app.ErrDamaged)) {
			t.Errorf("%v: %v, want %q", used, err, want)
		}
	}
	if _, err := d.Bytes(d.Region.Size()-8, 16); err == nil {
		t.Error("bytes behind the region are given")
	}
	if _, err := d.Bytes(8, ^uint64(0)-4); err == nil {
		t.Error("bytes beyond all numbers are given")
	}
	if _, err := d.Word(4); err == nil {
		t.Error("half of two words is given")
	}
}

// TestDoLeavesNothing of what fails.
func TestDoLeavesNothing(t *testing.T) {
	d := data(t, pmem.HeapOf(mirror.HeadSize+size, pmem.ADR), mirror.Options{})
	no := errors.New("no")
	if err := d.Do(func(tx *ptx.Tx) error { tx.Store64(d.Root, 1); return no }); !errors.Is(err, no) || d.Region.Load64(d.Root) != 0 {
		t.Errorf("%v, and the word is %d", err, d.Region.Load64(d.Root))
	}
}

// TestLockInVirtualTime: threads that take turns wait for each other's transactions and count right; without the lock they do not.
func TestLockInVirtualTime(t *testing.T) {
	run := func(locked bool) uint64 {
		m, err := timing.New(timing.Default(), 1)
		if err != nil {
			t.Fatal(err)
		}
		d := data(t, m.Node("primary").Memory(pmem.HeapOf(mirror.HeadSize+size, pmem.ADR)), mirror.Options{Threads: 4, Idle: m.Idle})
		var lock app.Lock
		var threads []func()
		for i := range 4 {
			th := workload.NewThread(i, 1, m)
			threads = append(threads, func() {
				for range 50 {
					if locked {
						lock.Lock(th, d)
					}
					was := d.Region.Load64(d.Root)
					th.Compute(time.Microsecond)
					if err := d.Do(func(tx *ptx.Tx) error { tx.Store64(d.Root, was+1); return nil }); err != nil {
						t.Error(err)
					}
					if locked {
						lock.Unlock()
					}
				}
			})
		}
		m.Run(threads...)
		return d.Region.Load64(d.Root)
	}
	if n := run(true); n != 200 {
		t.Errorf("counted %d, want 200", n)
	}
	if n := run(false); n == 200 {
		t.Error("threads of modelled hardware never disturb each other: this test shows nothing")
	}
}

// TestFilled: each byte counts, of whatever length.
func TestFilled(t *testing.T) {
	for n := range 40 {
		b := make([]byte, n)
		if app.Fill(b, 5); !app.Filled(b, 5) || n > 0 && app.Filled(b, 6) {
			t.Errorf("%d bytes are not known again, or anybody's", n)
		}
		for i := range b {
			b[i] ^= 1
			if app.Filled(b, 5) {
				t.Errorf("byte %d of %d is wrong, and not found", i, n)
			}
			b[i] ^= 1
		}
	}
}
