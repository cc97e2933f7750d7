package store

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/plog"
)

// pair is a primary and a replica with keys of 16 and values of 64 bytes, all stable and installed.
type pair struct {
	p, r  *member
	keys  uint64
	value []byte
	recs  []plog.Rec // appended and not carried over yet
	n     uint64
	used  [32][16]byte // the last keys, so that making one costs no memory and misses no cache
}

func newPair(t fataler, keys, arena uint64) *pair {
	g, err := plog.DefaultGeometry(arena)
	must(t, err)
	g.RingSlots = 4096
	c := &pair{p: newMember(t, g, Primary, nil), r: newMember(t, g, Replica, nil), value: make([]byte, 64)}
	c.keys = keys
	for i := range keys {
		c.set(t, c.key(i))
		if len(c.recs) == 1000 {
			c.carry()
		}
	}
	c.carry()
	return c
}

// set is one SET at the primary without making it durable.
func (c *pair) set(t fataler, key []byte) {
	tx := c.p.s.Begin()
	tx.Set(key, c.value)
	recs, err := tx.Commit(c.recs)
	if err != nil {
		must(t, err) // costs more than a SET
	}
	c.recs = recs
}

// key is the i-th key, valid until 32 more were made.
func (c *pair) key(i uint64) []byte {
	c.n++
	k := &c.used[c.n%32]
	copy(k[:8], "the key ")
	binary.LittleEndian.PutUint64(k[8:], i)
	return k[:]
}

// any is a key whose record is in no cache.
func (c *pair) any() []byte { return c.key(mix(c.n) % c.keys) }

// post brings slots and bytes over.
func (c *pair) post() {
	c.p.l.Commit()
	for _, rec := range c.recs {
		c.r.deliverBytes(c.p, rec)
		c.r.deliverSlot(c.p, rec, 0)
	}
	c.p.s.SetStable(c.p.l.End())
	c.recs = c.recs[:0]
}

// carry brings them into the replica's index.
func (c *pair) carry() {
	recs := c.recs
	c.post()
	c.take(recs)
}

// take is what the replica's loop does with what was posted.
func (c *pair) take(dst []plog.Rec) {
	c.r.s.Drain()
	c.r.s.SetStable(c.p.l.End())
	c.r.s.Verify(dst[:0], 1<<20, 1<<40)
	c.r.l.Commit()
	c.r.s.Install(1 << 20)
}

func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := newPair(t, 5000, 64<<20)
	dst := make([]byte, 0, 100)
	unseen := []byte("not there")
	recs := make([]plog.Rec, 0, 100)
	for name, f := range map[string]func(){
		"SET": func() { c.set(t, c.any()); c.recs = c.recs[:0] },
		"MSET 32": func() {
			tx := c.p.s.Begin()
			for range 32 {
				tx.Set(c.any(), c.value)
			}
			if _, err := tx.Commit(c.recs); err != nil {
				t.Fatal(err)
			}
		},
		"GET in a transaction": func() { c.p.s.Begin().Get(c.any()) },
		"Read at the primary":  func() { c.p.s.Read(c.any(), dst) },
		"Read at the replica":  func() { c.r.s.Read(c.any(), dst) },
		"ReadAt":               func() { c.r.s.ReadAt(c.any(), dst) },
		"Read of no key":       func() { c.r.s.Read(unseen, dst); c.p.s.Read(unseen, dst) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %.2f allocations", name, n)
		}
	}
	c = newPair(t, 5000, 64<<20)
	if n := testing.AllocsPerRun(1000, func() {
		key := c.any()
		tx := c.p.s.Begin()
		if !tx.Del(key) {
			tx.Set(key, c.value)
		}
		c.recs, _ = tx.Commit(c.recs)
		c.post()
		c.r.s.Read(key, dst)
		c.take(recs)
		c.p.s.Everywhere(c.p.s.Stable())
	}); n != 0 {
		t.Errorf("DEL or SET, all the way to the replica's index: %.2f allocations", n)
	}
}

const million = 1_000_000

// BenchmarkStore: keys of 16 bytes, values of 64, keys at random; few enough for the caches, and a million. Beside the time that passed it reports the time that
// the processor took, which others on the machine disturb less.
func BenchmarkStore(b *testing.B) {
	for _, keys := range []uint64{5000, million} {
		b.Run(strconv.FormatUint(keys, 10), func(b *testing.B) { benchmarkStore(b, keys) })
	}
}

func benchmarkStore(b *testing.B, keys uint64) {
	var c *pair
	prepare := func(b *testing.B) {
		b.ReportAllocs()
		if c == nil || c.p.l.Free() < 300<<20 {
			c = newPair(b, keys, 1<<30)
		}
		runtime.GC()
		b.ResetTimer()
	}
	dst := make([]byte, 0, 100)
	b.Run("Set", func(b *testing.B) {
		prepare(b)
		start := processorTime()
		for range b.N {
			c.set(b, c.any())
			c.recs = c.recs[:0]
		}
		b.ReportMetric(float64(processorTime()-start)/float64(b.N), "cpu-ns/op")
		c = nil
	})
	for _, at := range []string{"primary", "replica"} {
		b.Run("Read/"+at, func(b *testing.B) {
			prepare(b)
			s := map[string]*Store{"primary": c.p.s, "replica": c.r.s}[at]
			start := processorTime()
			for range b.N {
				if _, v, _ := s.Read(c.any(), dst); v != Hit {
					b.Fatal(v)
				}
			}
			b.ReportMetric(float64(processorTime()-start)/float64(b.N), "cpu-ns/op")
		})
	}
	b.Run("DrainVerifyInstall", func(b *testing.B) {
		prepare(b)
		const batch = 64
		recs := make([]plog.Rec, 0, batch)
		var spent time.Duration
		for n := 0; n < b.N; n += batch {
			b.StopTimer()
			for range batch {
				c.set(b, c.any())
			}
			c.post()
			b.StartTimer()
			start := processorTime()
			c.take(recs)
			spent += processorTime() - start
		}
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	})
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
