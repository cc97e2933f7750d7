// Package workload says what a program is that measures mirroring: it keeps its data in a region of persistent memory, and
// runs transactions on it, on a real fabric or on modelled hardware, without knowing which.
package workload

import (
	"math/rand/v2"
	"time"

	"whale/mirror"
)

// Workload is a program and its parameters. Its methods may be called again and again, for one region each time.
type Workload interface {
	// Name is what a user calls it: one lower-case word.
	Name() string
	// Size is how many bytes of a region it needs.
	Size() uint64
	// Threads is how many threads it runs at a time, if nobody asks for another number.
	Threads() int
	// Prepare builds the data from which it starts in a region that is zero.
	Prepare(r *mirror.Region) error
	// Open takes over data that Prepare built, and programs changed since: the primary's, after a crash, too, or a
	// mirror's copy. It repairs what a crash left of unfinished transactions.
	Open(r *mirror.Region) (Program, error)
}

// Program is a workload on its data.
type Program interface {
	// Run runs n transactions. It is called by as many goroutines at once as there are threads, once each, with
	// different indexes below the region's Options.Threads. It blocks on nothing but transactions: no lock is held when
	// one of their methods, or of the thread's machine, is called, for on modelled hardware threads take turns there.
	Run(t *Thread, n int) error
	// Check says what is wrong with the data, as far as the program can know. It changes nothing.
	Check() error
}

// Thread is what runs a part of a program.
type Thread struct {
	Index int
	Rand  *rand.Rand // its own; equal seeds give equal runs
	Machine
}

// Machine pays for what a program does besides its transactions: in virtual time on a model, by doing it on a real machine.
type Machine interface {
	// Compute works for d.
	Compute(d time.Duration)
	// LoadCached, LoadDRAM and LoadPM load n cache lines one after the other, from the last-level cache, from DRAM, or from
	// persistent memory. On a real machine they do nothing, because the program's own loads cost what they cost.
	LoadCached(n int)
	LoadDRAM(n int)
	LoadPM(n int)
}

// Real is the machine that the program runs on.
type Real struct{}

// Compute spins.
func (Real) Compute(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// LoadCached, LoadDRAM and LoadPM do nothing.
func (Real) LoadCached(int) {}
func (Real) LoadDRAM(int)   {}
func (Real) LoadPM(int)     {}

// NewThread is a thread with a generator of its own.
func NewThread(index int, seed uint64, m Machine) *Thread {
	return &Thread{Index: index, Rand: rand.New(rand.NewPCG(seed, uint64(index))), Machine: m}
}
