package trace_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/trace"
)

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"1 2 1\n64\n":                      "[[1 2 1] [64]]",
		"1 2":                              "[[1 2]]",
		" 1\t2 \r\n1048576\n":              "[[1 2] [1048576]]",
		"":                                 "no transaction",
		"1 2\n\n3\n":                       "t, line 2: no epoch",
		"1 2\n  ":                          "t, line 2: no epoch",
		"1\n2 x\n":                         `t, line 2: "x"`,
		"1\n2\n0 1\n":                      "t, line 3: an epoch of 0 lines",
		"1048577\n":                        "t, line 1: an epoch of 1048577 lines",
		"1 99999999999999999999\n":         "t, line 1: an epoch of more",
		"1 -2\n":                           `t, line 1: "-"`,
		"1\x00\n":                          "t, line 1",
		strings.Repeat("1 ", 1<<20+1) + "": "t, line 1: more than 1048576 epochs",
	} {
		got, err := trace.Read("t", strings.NewReader(text))
		if have := fmt.Sprint(got, err); !strings.Contains(have, want) || (err != nil) == strings.HasPrefix(want, "[") {
			t.Errorf("%.20q: %.80s, want %s", text, have, want)
		}
	}
}

// TestRecordAndReplay: what is recorded is replayed, and recording the replay gives the same trace.
func TestRecordAndReplay(t *testing.T) {
	want := []trace.Transaction{{1, 2, 1}, {64}, {1, 1, 7, 1, 30, 2, 2, 2, 1, 1}, {3}}
	w, err := trace.New("some", want, 2)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	rec := trace.NewRecorder(&text)
	r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+w.Size(), pmem.ADR), nil, nil, mirror.Options{Observer: rec, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(workload.NewThread(0, 1, workload.Real{}), 4); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(workload.NewThread(1, 1, workload.Real{}), 4); err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := trace.Read("recorded", &text)
	if err != nil {
		t.Fatal(err)
	}
	// The second thread starts in the middle.
	if all := append(append([]trace.Transaction{}, want...), want[2], want[3], want[0], want[1]); !reflect.DeepEqual(got, all) {
		t.Errorf("recorded %v, want %v", got, all)
	}
	if p.Run(workload.NewThread(2, 1, workload.Real{}), 1) == nil {
		t.Error("a third thread of two runs")
	}
}

// lines counts writes and different lines.
type lines struct {
	writes   int
	distinct map[uint64]bool
	total    int
}

func (l *lines) Write(_ int, off, n uint64) {
	if n != 64 || off%64 != 0 {
		panic("not a line")
	}
	l.writes++
	l.distinct[off] = true
}
func (l *lines) Barrier(int) {}
func (l *lines) Commit(int)  { l.total += len(l.distinct); clear(l.distinct) }

// TestRewrites: lines are written as often as programs do it.
func TestRewrites(t *testing.T) {
	w, err := trace.New("some", []trace.Transaction{{1, 6, 1, 1, 1, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 17, 1, 1, 1, 1, 2, 1, 1, 1, 20, 1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := &lines{distinct: map[uint64]bool{}}
	r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+w.Size(), pmem.ADR), nil, nil, mirror.Options{Observer: l})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(workload.NewThread(0, 1, workload.Real{}), 100); err != nil {
		t.Fatal(err)
	}
	if got := float64(l.writes) / float64(l.total); got < 1.6 || got > 2.4 {
		t.Errorf("lines are written %.2f times, want about %.2f as far as the epochs allow", got, trace.Rewrites)
	}
}

// longest notes how many different lines each epoch has.
type longest struct {
	lines  map[uint64]bool
	epochs []int
}

func (l *longest) Write(_ int, off, _ uint64) { l.lines[off] = true }
func (l *longest) Barrier(int)                { l.epochs = append(l.epochs, len(l.lines)); clear(l.lines) }
func (l *longest) Commit(int)                 { l.Barrier(0) }

// TestLongEpochs: the lines of an epoch are different ones, however long it is, and also where a thread's part begins again.
func TestLongEpochs(t *testing.T) {
	for _, want := range [][]int{{200_000}, {100_000, 131_072}, {131_072, 131_072, 5}, {131_072, 131_072, 131_072}, {140_000, 1, 140_000}} {
		var one trace.Transaction
		for _, n := range want {
			one = append(one, uint32(n))
		}
		w, err := trace.New("long", []trace.Transaction{one}, 1)
		if err != nil {
			t.Fatal(err)
		}
		l := &longest{lines: map[uint64]bool{}}
		r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+w.Size(), pmem.ADR), nil, nil, mirror.Options{Observer: l})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Open(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(workload.NewThread(0, 1, workload.Real{}), 2); err != nil {
			t.Fatal(err)
		}
		if both := append(want, want...); !reflect.DeepEqual(l.epochs, both) {
			t.Errorf("epochs of %v lines, want %v", l.epochs, both)
		}
	}
	for _, n := range []uint32{0, trace.MaxLines + 1} {
		if _, err := trace.New("x", []trace.Transaction{{1}, {1, n}}, 1); err == nil || !strings.Contains(err.Error(), "transaction 2") {
			t.Errorf("an epoch of %d lines: %v", n, err)
		}
	}
}

// FuzzRead: whatever is read is written as a text that reads the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte("1 2 1\n6\n"))
	f.Add([]byte("1 2 1"))
	f.Add([]byte("0\n"))
	f.Add([]byte("\n1 \r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := trace.Read("fuzz", bytes.NewReader(text))
		if err != nil {
			if !strings.Contains(err.Error(), "fuzz") {
				t.Errorf("the error %q does not name the text", err)
			}
			return
		}
		var out bytes.Buffer
		if err := trace.Write(&out, all); err != nil {
			t.Fatal(err)
		}
		again, err := trace.Read("again", &out)
		if err != nil || !reflect.DeepEqual(all, again) {
			t.Errorf("%v is written as what reads as %v, %v", all, again, err)
		}
	})
}
