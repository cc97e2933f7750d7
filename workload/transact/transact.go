// Package transact is the microbenchmark Transact: transactions of so many epochs of so many writes of so many bytes, at
// places drawn at random, with computation and loads in between.
//
// Where a write goes and what it writes follows from its number in its thread alone. So whoever looks at the region can tell
// which writes it holds, and finds every one that is missing, torn or ahead of its epoch ([workload.Program].Check).
package transact

import (
	"encoding/binary"

	"fmt"
	"time"

	"whale/mirror"
	"whale/workload"
)

// Params are Transact's parameters. [Default] has those that Params leave zero.
type Params struct {
	Epochs  int           // of a transaction
	Writes  int           // of an epoch
	Bytes   int           // of a write: a multiple of 8
	Reads   int           // loads of lines of the region, before the writes of an epoch
	Compute time.Duration // before each epoch
	Threads int
	Span    uint64 // bytes of the region in which a thread writes
}

// Default is 16 epochs of one line, by one thread.
func Default() Params { return Params{Epochs: 16, Writes: 1, Bytes: 64, Threads: 1, Span: 1 << 20} }

// cached is up to which span loads find their lines in the last-level cache.
const cached = 8 << 20

// Transact implements workload.Workload.
type Transact struct {
	p     Params
	slots uint64 // of a thread: places for a write
	pitch uint64 // bytes from one to the next
}

// New checks the parameters.
func New(p Params) (*Transact, error) {
	def := Default()
	for _, v := range []struct {
		name     string
		at       *int
		def, max int
		multiple int
	}{
		{"epochs", &p.Epochs, def.Epochs, 1 << 20, 1}, {"writes", &p.Writes, def.Writes, 1 << 20, 1},
		{"bytes", &p.Bytes, def.Bytes, 1 << 20, 8}, {"threads", &p.Threads, def.Threads, 1024, 1}, {"reads", &p.Reads, 0, 1 << 20, 1},
	} {
		if *v.at == 0 {
			*v.at = v.def
		}
		if *v.at < 0 || *v.at > v.max || *v.at%v.multiple != 0 {
			return nil, fmt.Errorf("transact: %s = %d: want a multiple of %d up to %d", v.name, *v.at, v.multiple, v.max)
		}
	}
	if p.Span == 0 {
		p.Span = def.Span
	}
	if p.Compute < 0 {
		return nil, fmt.Errorf("transact: computation of %v: want none or more", p.Compute)
	}
	w := &Transact{p: p, pitch: (uint64(p.Bytes) + 63) &^ 63}
	w.slots = p.Span / w.pitch
	if w.slots == 0 || p.Span > 1<<36 {
		return nil, fmt.Errorf("transact: a span of %d bytes: want room for one write of %d bytes at least, and 64 GB at most", p.Span, w.pitch)
	}
	return w, nil
}

// Name implements workload.Workload.
func (w *Transact) Name() string { return "transact" }

// Threads implements workload.Workload.
func (w *Transact) Threads() int { return w.p.Threads }

// Size implements workload.Workload.
func (w *Transact) Size() uint64 { return headSize + uint64(w.p.Threads)*w.slots*w.pitch }

// The region's head says by which parameters its content is to be read.
const (
	headSize  = 64
	headMagic = 0x31434154534e5254 // "TRNSTAC1"
)

func (w *Transact) head() (h [6]uint64) {
	return [6]uint64{headMagic, uint64(w.p.Epochs), uint64(w.p.Writes), uint64(w.p.Bytes), w.slots, uint64(w.p.Threads)}
}

// Prepare implements workload.Workload.
func (w *Transact) Prepare(r *mirror.Region) error {
	if r.Size() < w.Size() {
		return fmt.Errorf("transact: a region of %d bytes, want %d", r.Size(), w.Size())
	}
	tx, err := r.Begin()
	if err != nil {
		return err
	}
	for i, v := range w.head() {
		tx.Store64(uint64(i)*8, v)
	}
	return tx.Commit()
}

// Open implements workload.Workload. A transaction that a crash cut short is written to its end.
func (w *Transact) Open(r *mirror.Region) (workload.Program, error) {
	if r.Size() < w.Size() {
		return nil, fmt.Errorf("transact: a region of %d bytes, want %d", r.Size(), w.Size())
	}
	for i, want := range w.head() {
		if got := r.Load64(uint64(i) * 8); got != want {
			return nil, fmt.Errorf("transact: word %d of the region's head is %#x, want %#x: it was prepared with other parameters, or not at all", i, got, want)
		}
	}
	p := &program{Transact: w, r: r, next: make([]uint64, w.p.Threads)}
	for i := range p.next {
		if err := p.recover(i); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// program is Transact on a region.
type program struct {
	*Transact
	r    *mirror.Region
	next []uint64 // number of the next write of each thread; the first is 1
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	if t.Index >= p.p.Threads {
		return fmt.Errorf("transact: thread %d of %d", t.Index, p.p.Threads)
	}
	buf := make([]byte, p.p.Bytes)
	for range n {
		tx, err := p.r.Begin()
		if err != nil {
			return err
		}
		for epoch := range p.p.Epochs {
			if epoch > 0 {
				tx.Barrier()
			}
			if p.p.Compute > 0 {
				t.Compute(p.p.Compute)
			}
			if p.p.Reads > 0 {
				p.read(t)
			}
			for range p.p.Writes {
				p.write(tx, t.Index, buf)
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// read loads lines of the thread's part.
func (p *program) read(t *workload.Thread) {
	data := p.r.Bytes()
	for range p.p.Reads {
		sink += data[p.place(t.Index, t.Rand.Uint64())]
	}
	if p.p.Span <= cached {
		t.LoadCached(p.p.Reads)
	} else {
		t.LoadPM(p.p.Reads)
	}
}

var sink byte // keeps the loads

// write makes a thread's next write.
func (p *program) write(tx *mirror.Tx, thread int, buf []byte) {
	number := p.next[thread]
	fill(buf, thread, number)
	tx.Write(p.place(thread, number), buf)
	p.next[thread]++
}

// mix scatters the bits of x (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// slot is which of its thread's places a write goes to.
func (w *Transact) slot(thread int, number uint64) uint64 {
	return mix(number^uint64(thread)<<48) % w.slots
}

// place is the offset in the region.
func (w *Transact) place(thread int, number uint64) uint64 {
	return headSize + (uint64(thread)*w.slots+w.slot(thread, number))*w.pitch
}

// fill is what a write writes: its number, and words that follow from it.
func fill(buf []byte, thread int, number uint64) {
	binary.LittleEndian.PutUint64(buf, number)
	for i := 8; i < len(buf); i += 8 {
		binary.LittleEndian.PutUint64(buf[i:], mix(number*31+uint64(i)+uint64(thread)<<56))
	}
}

// Transactions is how many transactions of a thread the region holds whole.
func (p *program) Transactions(thread int) uint64 {
	return (p.next[thread] - 1) / (uint64(p.p.Epochs) * uint64(p.p.Writes))
}
