package dev

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"whale/internal/node"
)

// Descriptors of a node's pipes: exec.Cmd.ExtraFiles start at 3.
const (
	parentFD = 3
	stateFD  = 4
)

// event is something that happened to a node. One of the fields behind node is set.
type event struct {
	node    int
	state   *node.State
	exit    *exit
	restart bool
}

type exit struct {
	pid       int
	how       string // "was killed by signal 9 (killed)"
	permanent bool
}

// member is one node. Its methods belong to the goroutine that handles the events; goroutines of its own only send them.
type member struct {
	id        int
	args      []string
	folder    string
	stopLimit time.Duration
	events    chan<- event

	cmd       *exec.Cmd
	parent    *os.File      // the end of the pipe whose closing the node notices
	gone      chan struct{} // closed when the process has ended
	state     node.State    // as last reported by the running process
	since     time.Time     // when it began to serve
	pause     time.Duration // before the last restart
	later     *time.Timer   // the restart that is due
	returning bool          // it was started again and has not served since
	log       logTail
}

func (m *member) pid() int { return m.cmd.Process.Pid }

// start starts the process.
func (m *member) start() error {
	watched, parent, err := os.Pipe()
	if err != nil {
		return err
	}
	defer watched.Close()
	reports, reported, err := os.Pipe()
	if err != nil {
		parent.Close()
		return err
	}
	defer reported.Close()
	args := append(append([]string{}, m.args[1:]...), "--parent-fd", fmt.Sprint(parentFD), "--state-fd", fmt.Sprint(stateFD))
	cmd := exec.Command(m.args[0], args...)
	cmd.ExtraFiles = []*os.File{watched, reported}
	cmd.Stderr = &m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // should somebody else hold its stderr
	if err := cmd.Start(); err != nil {
		parent.Close()
		reports.Close()
		return err
	}
	m.cmd, m.parent, m.state, m.gone = cmd, parent, node.State{}, make(chan struct{})
	go m.watch(cmd, reports, m.gone)
	return nil
}

// watch reports the states of one process, then its end.
func (m *member) watch(cmd *exec.Cmd, reports *os.File, gone chan struct{}) {
	lines := json.NewDecoder(bufio.NewReader(reports))
	for {
		var s node.State
		if lines.Decode(&s) != nil { // the end of the pipe
			break
		}
		m.events <- event{node: m.id, state: &s}
	}
	reports.Close()
	cmd.Wait()
	close(gone)
	m.events <- event{node: m.id, exit: &exit{pid: cmd.Process.Pid, how: describe(cmd.ProcessState), permanent: cmd.ProcessState.ExitCode() == node.ExitPermanent}}
}

func describe(p *os.ProcessState) string {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%v)", w.Signal(), w.Signal())
	}
	return fmt.Sprintf("ended with exit code %d", p.ExitCode())
}

// apply takes what an event says into the member's state.
func (m *member) apply(e event) {
	switch {
	case e.state != nil:
		if e.state.Serving && !m.state.Serving {
			m.since = time.Now()
		}
		m.state = *e.state
	case e.exit != nil:
		m.parent.Close()
		if m.state.Serving && time.Since(m.since) > settled {
			m.pause = 0
		}
		m.state = node.State{}
		m.returning = true
	}
}

// nextPause is how long to wait before the next restart: longer each time, until the node has served for a while.
func (m *member) nextPause() time.Duration {
	m.pause = min(max(2*m.pause, firstRestart), lastRestart)
	return m.pause
}

func (m *member) running() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.gone:
		return false
	default:
		return true
	}
}

func (m *member) askToStop() {
	if m.later != nil {
		m.later.Stop()
	}
	if m.running() {
		m.cmd.Process.Signal(syscall.SIGTERM)
		m.cmd.Process.Signal(syscall.SIGCONT) // one that was stopped cannot end
	}
}

// awaitStop waits for the process to end, and kills it when that takes too long. It empties events meanwhile.
func (m *member) awaitStop(events <-chan event) {
	if m.cmd == nil {
		return
	}
	limit := time.After(m.stopLimit)
	for {
		select {
		case <-m.gone:
			m.parent.Close()
			return
		case <-events:
		case <-limit:
			syscall.Kill(-m.pid(), syscall.SIGKILL) // its whole group
		}
	}
}

// lastLines are the last lines that the node logged, as an indented block.
func (m *member) lastLines() string {
	var b strings.Builder
	for _, line := range m.log.last() {
		fmt.Fprintf(&b, "\n  node %d | %s", m.id, line)
	}
	return b.String()
}

// speak shows from now on what the node logs, as it comes.
func (m *member) speak(say func(format string, args ...any)) {
	m.log.show(func(line string) { say("node %d | %s", m.id, line) })
}

// logTail takes a node's log: it keeps the last lines, and shows them when asked to. It is written by a goroutine of
// package exec.
type logTail struct {
	mu    sync.Mutex
	lines []string
	part  []byte
	out   func(line string)
}

const (
	keptLines = 20
	maxLine   = 16 << 10
)

var _ io.Writer = (*logTail)(nil)

func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, b...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 && len(l.part) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(l.part) - 1
		}
		line := strings.TrimRight(string(l.part[:i+1]), "\r\n")
		l.part = append(l.part[:0], l.part[i+1:]...)
		if l.lines = append(l.lines, line); len(l.lines) > keptLines {
			l.lines = l.lines[1:]
		}
		if l.out != nil {
			l.out(line)
		}
	}
}

func (l *logTail) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func (l *logTail) show(out func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = out
}
