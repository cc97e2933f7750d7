// Package steps is what the lab's two halves have in common: the program on the host, which starts the guest and reports,
// and the one in the guest, which runs the steps. They agree on the names of the steps and on the events of a run.
package steps

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Step is one thing that the guest checks.
type Step struct {
	Name  string
	What  string        // is checked, in a few words
	Limit time.Duration // by the guest's clock; the step has failed when it takes longer
	Verbs bool          // needs the programs that are built with cgo against rdma-core
}

// All are the steps in the order in which they run.
var All = []Step{
	{Name: "devices", What: "soft-RoCE between two hosts and emulated persistent memory are there (the lab itself)", Limit: 2 * time.Minute},
	{Name: "pmem", What: "pmem on device DAX and on files with MAP_SYNC", Limit: 4 * time.Minute},
	{Name: "shm", What: "fabric/shm with its memory on persistent memory", Limit: 5 * time.Minute},
	{Name: "tcp", What: "fabric/tcp with its memory on persistent memory", Limit: 5 * time.Minute},
	{Name: "verbs", What: "fabric/verbs between two hosts, with native persistent flushes", Limit: 10 * time.Minute, Verbs: true},
	{Name: "mirror", What: "mirroring between two hosts over verbs, memory on device DAX; all strategies beside each other", Limit: 8 * time.Minute, Verbs: true},
	{Name: "node", What: "a node whose memory is a device", Limit: 4 * time.Minute},
	{Name: "whale-tcp", What: "three nodes on three hosts over TCP, memory on device DAX: redis-cli, redis-benchmark, linearizability", Limit: 6 * time.Minute},
	{Name: "whale-verbs", What: "the same over verbs", Limit: 8 * time.Minute, Verbs: true},
}

// Find is the step of that name.
func Find(name string) (Step, bool) {
	for _, s := range All {
		if s.Name == name {
			return s, true
		}
	}
	return Step{}, false
}

// Event is one line from the guest.
type Event struct {
	Run     string  // the run's number, which the host made up: what says something else is not of this run
	Kind    string  // one of the constants below
	Step    string  `json:",omitempty"`
	Text    string  `json:",omitempty"` // Line: what a program printed; End: why the step failed; Note: a figure to report
	Failed  bool    `json:",omitempty"` // End
	Seconds float64 `json:",omitempty"` // Ready: since the kernel started; End: that the step took
}

// Kinds of events. A guest says Ready, then for each step Begin, Lines and Notes, End, then Done.
const (
	Ready = "ready"
	Begin = "begin"
	Line  = "line"
	Note  = "note"
	End   = "end"
	Done  = "done"
)

// Plan is the file /plan.json in the guest: what the host wants to be run.
type Plan struct {
	Run     string
	Steps   []string
	Modules []string // of the kernel, in the order of loading
	Devices int      // NVDIMMs; the last one is for a file system, the others are device DAX
}

// Encode writes e as one line.
func Encode(w io.Writer, e Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Decode calls f with each event of the run that comes from r, until r ends. What is no event of this run is an error: the
// line that the guest reports on carries nothing else.
func Decode(r io.Reader, run string, f func(Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("the guest reported %.200q: %w", lines.Text(), err)
		}
		if e.Run != run {
			return fmt.Errorf("the guest reported %.200q, which is not of this run (%s)", lines.Text(), run)
		}
		f(e)
	}
	return lines.Err()
}
