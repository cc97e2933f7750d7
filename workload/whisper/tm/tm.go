// Package tm is a transactional memory: atomic transactions of package ptx, isolated from each other.
//
//	memory := tm.New(pool)
//	err := memory.Run(thread, func(tx *tm.Tx) error {
//		tx.Store64(to, tx.Load64(to)+1)
//		tx.Store64(from, tx.Load64(from)-1)
//		return nil
//	})
//
// Isolation is strict two-phase locking of cache lines: the first access of a transaction to a line takes a lock on it, shared or
// exclusive, and all are given back after the end of the transaction. Nobody ever waits for a lock: who does not get
// one gives up what it has done, computes for a random while, and runs again ("no-wait"; Bernstein and Goodman, Concurrency
// Control in Distributed Database Systems, 1981). So there is no deadlock, nothing blocks while locks are held, and equal
// seeds give equal runs on modelled hardware.
package tm

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"whale/mirror/ptx"
	"whale/workload"
)

// Memory is a pool whose transactions are isolated, as long as all of them are begun here. Any goroutine may call Run.
type Memory struct {
	pool  *ptx.Pool
	bytes []byte // of the region
	redo  bool   // what a transaction writes is not there before its Commit
	// locks are those of lines, by the last bits of their number: 0 free, n > 0 shared by n, -1 exclusive.
	locks []atomic.Int32
	// cached is which line each place of a direct-mapped cache holds (the line's number without the bits that are the place's), to tell
	// the machine what loads cost.
	cached []atomic.Uint32

	mu   sync.Mutex
	free []*Tx
}

const (
	lineSize = 64
	maxSlots = 1 << 18 // a cache of 16 MiB
)

// New is the transactional memory of a pool. The modelled cache holds the region's beginning.
func New(pool *ptx.Pool) *Memory {
	m := &Memory{pool: pool, bytes: pool.Region().Bytes(), redo: pool.Log() == ptx.Redo}
	slots := 1
	for slots < maxSlots && slots < len(m.bytes)/lineSize {
		slots *= 2
	}
	m.locks, m.cached = make([]atomic.Int32, slots), make([]atomic.Uint32, slots)
	return m
}

// Pool is the pool.
func (m *Memory) Pool() *ptx.Pool { return m.pool }

// Tx is a transaction under way, f's of [Memory.Run] until it returns. Its methods are those of ptx.Tx, and end f when there is a
// conflict with another transaction.
type Tx struct {
	m      *Memory
	tx     *ptx.Tx // nil: a look
	thread *workload.Thread
	held   map[uint32]bool // locks, true: exclusive
	loads  struct{ cached, pm int }
	lost   bool // there was a conflict
}

type conflict struct{}

// Run runs f as a transaction, again and again until it meets no conflict: what f does beside tx has to bear that. If f
// returns an error, nothing of it is done, and the error is Run's. nil: all of it is durable, here and on every mirror. Other errors: those
// of ptx.Tx.Commit.
func (m *Memory) Run(t *workload.Thread, f func(tx *Tx) error) error {
	for attempt := 0; ; attempt++ {
		lost, err := m.try(t, f)
		if !lost || err != nil {
			return err
		}
		t.Compute(time.Duration(1 + t.Rand.Int64N(int64(backoff)<<min(attempt, 8))))
	}
}

// backoff is how long a transaction stays away after its first conflict, at most.
const backoff = 500 * time.Nanosecond

func (m *Memory) try(t *workload.Thread, f func(tx *Tx) error) (lost bool, err error) {
	inner, err := m.pool.Begin()
	if err != nil {
		return false, err
	}
	tx := m.take()
	tx.tx, tx.thread = inner, t
	defer func() {
		if tx.lost {
			recover() // the panic of conflict
			lost, err = true, inner.Abort()
		}
		if tx.tx != nil { // else somebody panics: let go of nothing
			tx.release()
		}
	}()
	if err = f(tx); err == nil {
		tx.pay()
		return false, inner.Commit()
	}
	if aerr := inner.Abort(); aerr != nil {
		err = aerr
	}
	return false, err
}

func (m *Memory) take() *Tx {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.free); n > 0 {
		tx := m.free[n-1]
		m.free = m.free[:n-1]
		return tx
	}
	return &Tx{m: m, held: map[uint32]bool{}}
}

// release gives the locks back.
func (t *Tx) release() {
	for i, exclusive := range t.held {
		if exclusive {
			t.m.locks[i].Store(0)
		} else {
			t.m.locks[i].Add(-1)
		}
	}
	clear(t.held)
	t.tx, t.thread, t.lost = nil, nil, false
	t.loads.cached, t.loads.pm = 0, 0
	t.m.mu.Lock()
	t.m.free = append(t.m.free, t)
	t.m.mu.Unlock()
}

// Look lets f read while no transaction is under way. Its writes panic.
func (m *Memory) Look(f func(tx *Tx) error) error { return f(&Tx{m: m}) }

// slot is where a line's lock is. Lines that share one share their fate.
func (m *Memory) slot(line uint64) uint32 { return uint32(line) & uint32(len(m.locks)-1) }

// lock takes the locks of [off, off+n).
func (t *Tx) lock(off, n uint64, exclusive bool) {
	if n == 0 {
		return
	}
	for line := off / lineSize; line <= (off+n-1)/lineSize; line++ {
		i := t.m.slot(line)
		has, ok := t.held[i]
		if has || ok && !exclusive {
			continue
		}
		l := &t.m.locks[i]
		switch {
		case ok: // and exclusive: nobody else may share it
			ok = l.CompareAndSwap(1, -1)
		case exclusive:
			ok = l.CompareAndSwap(0, -1)
		default:
			for {
				v := l.Load()
				if ok = v >= 0 && l.CompareAndSwap(v, v+1); ok || v < 0 {
					break
				}
			}
		}
		if !ok {
			t.lost = true
			panic(conflict{})
		}
		t.held[i] = exclusive
		t.touch(line, i)
	}
}

// touch counts the load of a line that the transaction had not seen.
func (t *Tx) touch(line uint64, slot uint32) {
	tag := uint32(line / uint64(len(t.m.cached)))
	if c := &t.m.cached[slot]; c.Load() == tag {
		t.loads.cached++
	} else {
		c.Store(tag)
		t.loads.pm++
	}
}

// pay tells the machine of the loads since the last write.
func (t *Tx) pay() {
	if n := t.loads.cached; n > 0 {
		t.loads.cached = 0
		t.thread.LoadCached(n)
	}
	if n := t.loads.pm; n > 0 {
		t.loads.pm = 0
		t.thread.LoadPM(n)
	}
}

// mine says whether the transaction has, perhaps, written to the line.
func (t *Tx) mine(off uint64) bool { return t.held[t.m.slot(off/lineSize)] }

// Load64 is the word at off, a multiple of 8.
func (t *Tx) Load64(off uint64) uint64 {
	if t.tx != nil {
		if t.lock(off, 8, false); t.m.redo && t.mine(off) {
			return t.tx.Load64(off)
		}
	}
	return binary.LittleEndian.Uint64(t.m.bytes[off:]) // which the lock lets nobody change
}

// Read copies the bytes at off to dst.
func (t *Tx) Read(off uint64, dst []byte) {
	if t.tx != nil {
		t.lock(off, uint64(len(dst)), false)
		if t.m.redo {
			t.tx.Read(off, dst)
			return
		}
	}
	copy(dst, t.m.bytes[off:off+uint64(len(dst))])
}

// Store64 changes the word at off, a multiple of 8.
func (t *Tx) Store64(off, v uint64) {
	t.change(off, 8)
	t.tx.Store64(off, v)
}

// Write changes the bytes at off to b.
func (t *Tx) Write(off uint64, b []byte) {
	t.change(off, uint64(len(b)))
	t.tx.Write(off, b)
}

// Add is that of ptx.Tx: a hint that all of [off, off+n) will be written.
func (t *Tx) Add(off, n uint64) {
	t.change(off, n)
	t.tx.Add(off, n)
}

func (t *Tx) change(off, n uint64) {
	if t.tx == nil {
		panic("tm: a write in a look")
	}
	t.lock(off, n, true)
	t.pay()
}

// Alloc is that of ptx.Tx.
func (t *Tx) Alloc(n uint64) (uint64, error) {
	t.pay()
	return t.tx.Alloc(n)
}

// Free is that of ptx.Tx. The caller has taken away what leads to the block, so that nobody else can be reading it.
func (t *Tx) Free(off uint64) error {
	t.pay()
	return t.tx.Free(off)
}

// Size is that of ptx.Tx: an error says that no allocated block begins at off. Not in a look.
func (t *Tx) Size(off uint64) (uint64, error) { return t.tx.Size(off) }
