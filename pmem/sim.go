package pmem

import (
	"math/rand/v2"
	"slices"
	"sync"
	"unsafe"
)

// Simulated is the crash model: a memory on the heap that remembers what of it is durable, and from which a test takes
// the memories that a crash at this moment could leave ([Simulated.Crash] and its kin). Taking one changes nothing, so
// that a test can take many at each step of a program.
//
// # The model
//
// There is the view, which the program sees, and the image, which is durable for certain. Persist takes a snapshot of
// the lines (64 bytes) of a range, and Fence puts the snapshots into the image: a store between Persist and Fence is not
// covered. Moreover a line may be evicted from the caches, or a page be written back, at any time, by chance (drawn from
// the seed, at Persist, CopyNT and Fence, or at the explicit [Simulated.Evict]): the model remembers what it held.
//
// A loss of power leaves each aligned 8-byte word as the image has it, or as any snapshot or eviction since the last
// Fence that covered its line has it, or as the view has it: never a mixture of two (words are whole), and whatever the
// other words hold (any subset of the words of a line, any subset of the lines). This is weaker than x86, which keeps the
// order of stores to one line; network cards do not, and a program has no business with the difference.
//
// What makes a store durable depends on the domain:
//
//	None                    nothing; every crash leaves zeros
//	FileShared, FileSynced  Sync, which covers whole pages; Persist and Fence do nothing; a crash of the process keeps all
//	ADR                     Persist (or CopyNT), then Fence; also Sync
//	EADR                    Fence, for all of the memory; also Sync
//
// Two things are kinder than the hardware. Only values that are in the view when a method is called are ever seen: a value
// that was stored and overwritten between two calls is not. And the model knows only the threads that it is told of
// ([Simulated.As]): of others, a Fence covers what any has persisted.
//
// Any goroutine may call any method. Persist, CopyNT and Fence are as fast as what they cover, apart from Fence in EADR,
// which copies the memory, as Crash and Evict do.
type Simulated struct {
	region

	mu       sync.Mutex
	rng      rand.PCG
	view     []line          // the bytes of region, as lines
	image    []line          // durable for certain
	thread   int             // whose calls these are
	inFlight []snapshot      // persisted and not yet fenced, in order
	evicted  map[uint64]line // what may have become durable by chance, of lines not fenced since
}

// line is a cache line, as the words that become durable one by one.
type line [lineSize / 8]uint64

// snapshot is what a line held when it was persisted.
type snapshot struct {
	at     uint64 // index of the line
	thread int    // that persisted it
	held   line
}

var _ Memory = (*Simulated)(nil)

// Simulate is a memory of size zero bytes, durable ones. The same seed and the same calls give the same evictions.
func Simulate(size uint64, domain Domain, seed uint64) *Simulated {
	s := newSimulated(size, domain)
	s.rng.Seed(seed, 0)
	return s
}

func newSimulated(size uint64, domain Domain) *Simulated {
	s := &Simulated{region: region{mem: alignedBytes(size), domain: domain}, evicted: map[uint64]line{}}
	n := (size + lineSize - 1) / lineSize
	s.view = unsafe.Slice((*line)(unsafe.Pointer(unsafe.SliceData(s.mem))), n)
	s.image = make([]line, n)
	return s
}

// Persist implements [Memory].
func (s *Simulated) Persist(off, n uint64) {
	_ = s.mem[off : off+n]
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.persist(off, n)
}

func (s *Simulated) persist(off, n uint64) {
	first, end := off/lineSize, (off+n+lineSize-1)/lineSize
	if s.domain == ADR {
		for at := first; at < end; at++ {
			s.inFlight = append(s.inFlight, snapshot{at, s.thread, s.look(at)})
		}
	}
	s.evictNear(first, end)
}

// CopyNT implements [Memory].
func (s *Simulated) CopyNT(off uint64, src []byte) {
	copy(s.mem[off:off+uint64(len(src))], src)
	if len(src) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.persist(off, uint64(len(src)))
}

// Fence implements [Memory].
func (s *Simulated) Fence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.domain {
	case ADR:
		s.arrive()
	case EADR:
		s.settle(0, uint64(len(s.view)))
	}
	s.evictNear(0, uint64(len(s.view)))
}

// arrive makes durable what this thread has persisted.
func (s *Simulated) arrive() {
	others := s.inFlight[:0]
	for _, p := range s.inFlight {
		if p.thread != s.thread {
			others = append(others, p)
			continue
		}
		s.image[p.at] = p.held
		delete(s.evicted, p.at)
		// What another thread persisted of the line before is part of that.
		others = slices.DeleteFunc(others, func(o snapshot) bool { return o.at == p.at })
	}
	s.inFlight = others
}

// As says whose calls those that follow are, for programs that let threads take turns: a Fence then covers what its own thread has
// persisted, and nothing of the others'. A new memory's are those of thread 0.
func (s *Simulated) As(thread int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thread = thread
}

// Sync implements [Memory]. It returns nil.
func (s *Simulated) Sync(off, n uint64) error {
	_ = s.mem[off : off+n]
	if n == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	page := uint64(pageSize)
	end := (off + n + page - 1) &^ (page - 1)
	s.settle(off&^(page-1)/lineSize, min(end/lineSize, uint64(len(s.view))))
	return nil
}

// settle makes lines [first, end) durable as the view has them.
func (s *Simulated) settle(first, end uint64) {
	for at := first; at < end; at++ {
		s.image[at] = s.look(at)
		delete(s.evicted, at)
	}
	s.inFlight = slices.DeleteFunc(s.inFlight, func(p snapshot) bool { return first <= p.at && p.at < end })
}

// look is what line at holds. It stands in for hardware, which looks at memory while others write it without asking
// for a lock; so the race detector must not look at it.
//
//go:norace
func (s *Simulated) look(at uint64) line { return s.view[at] }

// evictNear evicts, now and then, a line of [first, end) or near it: where a program works is where lines are dirty.
func (s *Simulated) evictNear(first, end uint64) {
	const near = 8 // lines
	dice := rand.New(&s.rng)
	if len(s.view) == 0 || dice.Uint64N(4) > 0 {
		return
	}
	first -= min(first, near)
	end = min(end+near, uint64(len(s.view)))
	s.evict(first + dice.Uint64N(end-first))
}

func (s *Simulated) evict(at uint64) {
	if held := s.look(at); held != s.image[at] {
		s.evicted[at] = held
	}
}

// Evict lets n lines drawn from those that differ from the image, or all if there are fewer, become durable by chance
// as they are now: a later Crash may find them so, even if they are stored to again.
func (s *Simulated) Evict(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirty []uint64
	for at := range uint64(len(s.view)) {
		if s.look(at) != s.image[at] {
			dirty = append(dirty, at)
		}
	}
	dice := rand.New(&s.rng)
	dice.Shuffle(len(dirty), func(i, j int) { dirty[i], dirty[j] = dirty[j], dirty[i] })
	for _, at := range dirty[:min(max(n, 0), len(dirty))] {
		s.evict(at)
	}
}
