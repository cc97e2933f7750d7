// Package epochs counts what transactions on persistent memory look like: the statistics in which Nalli et al., "An Analysis of
// Persistent Memory Use with WHISPER" (ASPLOS 2017) tell applications apart.
package epochs

import (
	"slices"
	"sync"
)

const lineSize = 64

// Recorder is a mirror.Observer that counts what it hears of. An epoch is what is written between two barriers, or between one
// and an end of the transaction; if that is nothing, there is no epoch. Transactions without a write do not count. Any
// goroutines may use it at once.
type Recorder struct {
	mu      sync.Mutex
	threads map[int]*transaction

	epochs   []int       // of each transaction
	lines    []int       // of each transaction: of its epochs, together
	widths   map[int]int // how many epochs have so many lines
	distinct int         // different lines of a transaction, of all together
	bytes    uint64
}

// transaction is the one that a thread has under way.
type transaction struct {
	epochs, lines int
	bytes         uint64
	epoch         map[uint64]struct{} // lines of the epoch under way
	all           map[uint64]struct{} // of the transaction
}

// NewRecorder has heard of nothing.
func NewRecorder() *Recorder {
	return &Recorder{threads: map[int]*transaction{}, widths: map[int]int{}}
}

// Reset forgets everything but the transactions under way.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs, r.lines, r.distinct, r.bytes = nil, nil, 0, 0
	clear(r.widths)
}

func (r *Recorder) thread(i int) *transaction {
	t := r.threads[i]
	if t == nil {
		t = &transaction{epoch: map[uint64]struct{}{}, all: map[uint64]struct{}{}}
		r.threads[i] = t
	}
	return t
}

// Write implements mirror.Observer.
func (r *Recorder) Write(thread int, off, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.thread(thread)
	t.bytes += n
	for line := off / lineSize; line*lineSize < off+n; line++ {
		t.epoch[line] = struct{}{}
		t.all[line] = struct{}{}
	}
}

// Barrier implements mirror.Observer.
func (r *Recorder) Barrier(thread int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(r.thread(thread))
}

func (r *Recorder) end(t *transaction) {
	if n := len(t.epoch); n > 0 {
		t.epochs++
		t.lines += n
		r.widths[n]++
		clear(t.epoch)
	}
}

// Commit implements mirror.Observer.
func (r *Recorder) Commit(thread int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.thread(thread)
	if r.end(t); t.epochs == 0 {
		return
	}
	r.epochs = append(r.epochs, t.epochs)
	r.lines = append(r.lines, t.lines)
	r.distinct += len(t.all)
	r.bytes += t.bytes
	t.epochs, t.lines, t.bytes = 0, 0, 0
	clear(t.all)
}

// Summary is what many transactions have in common. Lines count in each epoch that writes them.
type Summary struct {
	Transactions      int
	P5, P50, P95, Max int     // epochs of a transaction
	Mean              float64 // epochs of a transaction
	OneLine           float64 // share of the epochs that write one line, 0 to 1
	Width             float64 // lines of an epoch, mean
	Width99           int
	Lines             int     // lines of a transaction, median
	LinesMean         float64 // and mean
	Distinct          float64 // different lines of a transaction, mean
	Bytes             float64 // written by a transaction, mean
	Rewrites          float64 // how often a transaction writes a line that it writes
}

// Summary sums up what has committed.
func (r *Recorder) Summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Summary{Transactions: len(r.epochs)}
	if s.Transactions == 0 {
		return s
	}
	n := float64(s.Transactions)
	epochs, lines := slices.Sorted(slices.Values(r.epochs)), slices.Sorted(slices.Values(r.lines))
	s.P5, s.P50, s.P95, s.Max = quantile(epochs, 0.05), quantile(epochs, 0.5), quantile(epochs, 0.95), epochs[len(epochs)-1]
	s.Mean, s.LinesMean, s.Lines = mean(epochs), mean(lines), quantile(lines, 0.5)
	s.Distinct, s.Bytes = float64(r.distinct)/n, float64(r.bytes)/n
	s.Rewrites = s.LinesMean / s.Distinct
	all := s.Mean * n
	s.OneLine, s.Width = float64(r.widths[1])/all, s.LinesMean/s.Mean
	widths := make([]int, 0, len(r.widths))
	for w := range r.widths {
		widths = append(widths, w)
	}
	slices.Sort(widths)
	seen := 0
	for _, w := range widths {
		if s.Width99 = w; float64(seen+r.widths[w]) >= 0.99*all {
			break
		}
		seen += r.widths[w]
	}
	return s
}

// quantile is the smallest value of a sorted list that a share q of them does not exceed.
func quantile(sorted []int, q float64) int {
	i := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(i-1, 0), len(sorted)-1)]
}

func mean(all []int) float64 {
	sum := 0
	for _, v := range all {
		sum += v
	}
	return float64(sum) / float64(len(all))
}
