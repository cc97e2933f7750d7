// Package trace keeps the shape of transactions, apart from the program that made them: text, one transaction a line, the
// number of cache lines of each of its epochs, separated by spaces.
//
//	1 2 1 6 1
//
// A [Recorder] makes such a text of any workload, [Read] takes it in, and [New] makes a workload that replays it.
package trace

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// Transaction is the number of lines of each epoch.
type Transaction []uint32

// What a line of a trace may hold.
const (
	MaxEpochs = 1 << 20
	MaxLines  = 1 << 20 // of an epoch
)

// Read reads a trace. What is not one is an error with the number of its line; so is an empty trace. name is what the errors
// call the text.
func Read(name string, text io.Reader) ([]Transaction, error) {
	var all []Transaction
	in := bufio.NewReader(text)
	for number := 1; ; number++ {
		t, last, err := readLine(in)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s, line %d: %w", name, number, err)
		case last && len(all) == 0 && len(t) == 0:
			return nil, fmt.Errorf("%s: no transaction: want lines like 1 2 1, the number of cache lines of each epoch", name)
		case len(t) > 0:
			all = append(all, t)
		}
		if last {
			return all, nil
		}
	}
}

// readLine reads up to the end of a line, or of the text (last, which may then hold nothing).
func readLine(in *bufio.Reader) (t Transaction, last bool, err error) {
	number, digits, begun := uint64(0), 0, false
	end := func() error {
		if digits == 0 {
			return nil
		}
		if number == 0 || number > MaxLines {
			return fmt.Errorf("an epoch of %d lines: want 1 to %d", number, MaxLines)
		}
		if len(t) == MaxEpochs {
			return fmt.Errorf("more than %d epochs", MaxEpochs)
		}
		t = append(t, uint32(number))
		number, digits = 0, 0
		return nil
	}
	for {
		c, err := in.ReadByte()
		if err == io.EOF {
			if err := end(); err != nil {
				return nil, false, err
			}
			if begun && len(t) == 0 {
				return nil, false, fmt.Errorf("no epoch: want the number of cache lines of each")
			}
			return t, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		begun = true
		switch {
		case c >= '0' && c <= '9':
			if digits++; digits > 7 {
				return nil, false, fmt.Errorf("an epoch of more than %d lines", MaxLines)
			}
			number = number*10 + uint64(c-'0')
		case c == ' ' || c == '\t' || c == '\r':
			if err := end(); err != nil {
				return nil, false, err
			}
		case c == '\n':
			if err := end(); err != nil {
				return nil, false, err
			}
			if len(t) == 0 {
				return nil, false, fmt.Errorf("no epoch: want the number of cache lines of each")
			}
			return t, false, nil
		default:
			return nil, false, fmt.Errorf("%q: want numbers separated by spaces", string(rune(c)))
		}
	}
}

// Write writes a trace.
func Write(to io.Writer, all []Transaction) error {
	out := bufio.NewWriter(to)
	for _, t := range all {
		writeLine(out, t)
	}
	return out.Flush()
}

func writeLine(out *bufio.Writer, t Transaction) {
	for i, n := range t {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(strconv.FormatUint(uint64(n), 10))
	}
	out.WriteByte('\n') // an error stays with out until Flush
}

// Recorder is a mirror.Observer that writes what it hears of as a trace, a transaction when it commits. A line of memory that
// is written twice in one epoch counts once. Transactions without a write leave nothing.
type Recorder struct {
	mu      sync.Mutex
	out     *bufio.Writer
	threads map[int]*recording
}

type recording struct {
	epochs Transaction
	lines  map[uint64]struct{} // of the epoch under way
}

// NewRecorder records to out. [Recorder.Close] has to follow.
func NewRecorder(out io.Writer) *Recorder {
	return &Recorder{out: bufio.NewWriter(out), threads: map[int]*recording{}}
}

func (r *Recorder) thread(i int) *recording {
	t := r.threads[i]
	if t == nil {
		t = &recording{lines: map[uint64]struct{}{}}
		r.threads[i] = t
	}
	return t
}

// Write implements mirror.Observer.
func (r *Recorder) Write(thread int, off, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.thread(thread)
	for line := off / lineSize; line*lineSize < off+n; line++ {
		t.lines[line] = struct{}{}
	}
}

// Barrier implements mirror.Observer.
func (r *Recorder) Barrier(thread int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.thread(thread).end()
}

func (t *recording) end() {
	if n := len(t.lines); n > 0 {
		t.epochs = append(t.epochs, uint32(n))
		clear(t.lines)
	}
}

// Commit implements mirror.Observer.
func (r *Recorder) Commit(thread int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.thread(thread)
	if t.end(); len(t.epochs) > 0 {
		writeLine(r.out, t.epochs)
		t.epochs = t.epochs[:0]
	}
}

// Close writes what is left in memory. What has not committed is not part of the trace.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Flush()
}
