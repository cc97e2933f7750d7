// Package whisper lists the applications that the WHISPER suite consists of (Nalli et al., "An Analysis of Persistent Memory Use
// with WHISPER", ASPLOS 2017), written anew in Go on package mirror/ptx: each is a package below this one, keeps data that its
// Check can judge, and does what the original does. What is counted of their transactions is printed beside what was measured of the
// originals.
package whisper

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/epochs"
	"whale/workload/whisper/app"
)

// Application is one of the suite.
type Application struct {
	with     func(think time.Duration) (workload.Workload, error)
	Measured Measured
}

// New is the application with default parameters.
func (a Application) New() workload.Workload {
	w, err := a.with(0)
	if err != nil {
		panic(err) // defaults
	}
	return w
}

// With is the application with default parameters, except for what it computes besides each transaction or request; 0: the default.
func (a Application) With(think time.Duration) (workload.Workload, error) { return a.with(think) }

// Measured are figures of the original, as text: "" where there is none. "Recalled" ones rest on memory of the paper.
type Measured struct {
	Epochs   string // of a transaction
	OneLine  string // share of the epochs that write one line
	Width    string // lines of an epoch
	Lines    string // of a transaction
	Distinct string // different lines of a transaction
	Bytes    string // of a transaction
}

// Workloads are all applications, with default parameters.
func Workloads() []workload.Workload {
	all := make([]workload.Workload, len(Applications))
	for i, a := range Applications {
		all[i] = a.New()
	}
	return all
}

// Find is the application of that name.
func Find(name string) (Application, error) {
	var names []string
	for _, a := range Applications {
		n := a.New().Name()
		if strings.EqualFold(n, name) {
			return a, nil
		}
		names = append(names, n)
	}
	return Application{}, fmt.Errorf("whisper: no application %q: choose one of %s", name, strings.Join(names, ", "))
}

// Count runs n transactions of each of a workload's threads, one thread after the other, without mirrors, checks the data,
// and says what the transactions looked like. What prepares the data does not count.
func Count(w workload.Workload, n int, seed uint64) (epochs.Summary, error) {
	fail := func(err error) (epochs.Summary, error) { return epochs.Summary{}, fmt.Errorf("%s: %w", w.Name(), err) }
	m := pmem.HeapOf((mirror.HeadSize+w.Size()+63)&^63, pmem.ADR)
	rec := epochs.NewRecorder()
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{Threads: w.Threads(), Observer: rec})
	if err != nil {
		return fail(err)
	}
	if err := w.Prepare(r); err != nil {
		return fail(err)
	}
	p, err := w.Open(r)
	if err != nil {
		return fail(err)
	}
	rec.Reset()
	for i := range w.Threads() {
		if err := p.Run(workload.NewThread(i, seed, app.Still{}), n); err != nil {
			return fail(err)
		}
	}
	s := rec.Summary()
	if err := p.Check(); err != nil {
		return fail(err)
	}
	return s, r.Close()
}

// Row is an application and what was counted of it.
type Row struct {
	Application
	Counted epochs.Summary
}

// WriteTable prints what was counted, and below each line what was measured of the original.
func WriteTable(to io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "application\t\tepochs a transaction\tof one line\tlines an epoch\tlines a transaction\tdifferent\ttimes written\tbytes")
	fmt.Fprintln(t, "\t\tp5/p50/p95 (mean; max)\t\tmean, p99\tp50 (mean)\tmean\tmean\tmean")
	for _, r := range rows {
		s, m := r.Counted, r.Measured
		fmt.Fprintf(t, "%s\there\t%d/%d/%d (%.1f; %d)\t%.1f%%\t%.2f, %d\t%d (%.1f)\t%.1f\t%.2f\t%.0f\n", r.New().Name(),
			s.P5, s.P50, s.P95, s.Mean, s.Max, 100*s.OneLine, s.Width, s.Width99, s.Lines, s.LinesMean, s.Distinct, s.Rewrites, s.Bytes)
		fmt.Fprintf(t, "\toriginal\t%s\t%s\t%s\t%s\t%s\t\t%s\n", cmp.Or(m.Epochs, "-"), cmp.Or(m.OneLine, "-"), cmp.Or(m.Width, "-"),
			cmp.Or(m.Lines, "-"), cmp.Or(m.Distinct, "-"), cmp.Or(m.Bytes, "-"))
	}
	return t.Flush()
}
