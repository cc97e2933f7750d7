//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/lab/steps"
)

// guest is the machine.
type guest struct {
	plan   steps.Plan
	mu     sync.Mutex
	report *os.File
}

func (g *guest) say(e steps.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e.Run = g.plan.Run
	if err := steps.Encode(g.report, e); err != nil {
		fmt.Println("lab: report:", err)
	}
}

// step is a step that runs.
type step struct {
	*guest
	name    string
	ctx     context.Context
	cancel  context.CancelFunc
	running []*process // in the background
}

func (s *step) say(e steps.Event) {
	e.Step = s.name
	s.guest.say(e)
}

// note reports a figure.
func (s *step) note(format string, args ...any) {
	s.say(steps.Event{Kind: steps.Note, Text: fmt.Sprintf(format, args...)})
}

func (s *step) begin(limit time.Duration) {
	s.ctx, s.cancel = context.WithTimeout(context.Background(), limit)
}

// end ends what the step left running.
func (s *step) end() {
	if s.cancel != nil {
		s.cancel()
	}
	for _, p := range s.running {
		<-p.ended
	}
}

// command is a program whose output is reported, and which ends with the step. env is added to the environment. With a host
// it runs there: in that network namespace.
func (s *step) command(host string, env []string, args ...string) *exec.Cmd {
	if host != "" {
		args = append([]string{"ip", "netns", "exec", host}, args...)
	}
	cmd := exec.CommandContext(s.ctx, args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), env...), "HOME=/tmp")
	cmd.Dir = "/tmp"
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	out := &lines{say: func(text string) { s.say(steps.Event{Kind: steps.Line, Text: text}) }}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// finish runs a program to its end, which must be a good one.
func (s *step) finish(cmd *exec.Cmd) error {
	err := cmd.Run()
	if s.ctx.Err() != nil {
		err = fmt.Errorf("ended, for the step has taken too long: %w", s.ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// must runs programs on this machine, one after the other, until one fails.
func (s *step) must(commands ...string) error {
	for _, c := range commands {
		if err := s.finish(s.command("", nil, strings.Fields(c)...)); err != nil {
			return err
		}
	}
	return nil
}

// output is what a program prints, without the newline at the end.
func (s *step) output(host string, args ...string) (string, error) {
	cmd := s.command(host, nil, args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := s.finish(cmd)
	return strings.TrimRight(out.String(), "\n"), err
}

// process is a program that runs in the background.
type process struct {
	*exec.Cmd
	ended chan struct{} // closed when it has; err says how
	err   error
}

// start starts a program that runs until the step ends, or until somebody kills it.
func (s *step) start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{Cmd: cmd, ended: make(chan struct{})}
	s.running = append(s.running, p)
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// over says whether the process has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// while calls ok until it is true; it is an error when p ends before.
func (s *step) while(p *process, what string, ok func() bool) error {
	for !ok() {
		if p.over() {
			return fmt.Errorf("did not happen: %s: %s ended: %v", what, strings.Join(p.Args, " "), p.err)
		}
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("did not happen: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// lines cuts what is written into lines.
type lines struct {
	rest []byte
	say  func(string)
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		advance, line, err := bufio.ScanLines(l.rest, false)
		if advance == 0 || err != nil {
			return len(b), err
		}
		l.say(string(line))
		l.rest = l.rest[advance:]
	}
}

// probe counts calls of a function of the kernel (Documentation/trace/kprobetrace.rst).
type probe struct {
	name   string
	before uint64
}

const tracing = "/sys/kernel/tracing/"

// newProbe starts to count; an event of that name may be there from an earlier step.
func newProbe(function string) (*probe, error) {
	p := &probe{name: "lab_" + function}
	event := tracing + "events/kprobes/" + p.name
	if _, err := os.Stat(event); err != nil {
		if err := appendTo(tracing+"kprobe_events", "p:"+p.name+" "+function+"\n"); err != nil {
			return nil, fmt.Errorf("probe the kernel's function %s: %w", function, err)
		}
	}
	if err := os.WriteFile(event+"/enable", []byte("1"), 0); err != nil {
		return nil, err
	}
	var err error
	p.before, err = p.total()
	return p, err
}

// hits is the number of calls since newProbe.
func (p *probe) hits() (uint64, error) {
	n, err := p.total()
	return n - p.before, err
}

func (p *probe) total() (uint64, error) {
	text, err := os.ReadFile(tracing + "kprobe_profile")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var hit, missed uint64
		if n, _ := fmt.Sscan(line, &name, &hit, &missed); n == 3 && name == p.name {
			return hit, nil
		}
	}
	return 0, errors.New("kprobe_profile has no " + p.name)
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
