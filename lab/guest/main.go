//go:build linux

// Command guest is the first and only service of the lab's virtual machine: the kernel starts it as /init. It makes devices
// and networks, runs the steps of the plan, reports over the second serial line, and switches the machine off.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whale/lab/steps"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the lab's guest; start the lab with: go run ./lab")
		os.Exit(1)
	}
	if err := run(); err != nil {
		fmt.Println("lab:", err) // the console: what cannot be reported in order is found there
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// reportLine is the second serial line.
const reportLine = "/dev/ttyS1"

func run() error {
	if err := os.Setenv("PATH", "/usr/bin:/usr/sbin:/bin"); err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	text, err := os.ReadFile("/plan.json")
	if err != nil {
		return err
	}
	g := &guest{}
	if err := json.Unmarshal(text, &g.plan); err != nil {
		return fmt.Errorf("/plan.json: %w", err)
	}
	if g.report, err = openReport(); err != nil {
		return err
	}
	if err := loadModules(g.plan.Modules); err != nil {
		return err
	}
	g.say(steps.Event{Kind: steps.Ready, Seconds: uptime()})
	for i, name := range g.plan.Steps {
		if ok := g.run(name); !ok && i == 0 {
			break // the first makes what all others use
		}
	}
	g.say(steps.Event{Kind: steps.Done})
	return nil
}

// run runs one step and reports how it ended, whatever happens in it.
func (g *guest) run(name string) (ok bool) {
	s := &step{guest: g, name: name}
	began := time.Now()
	s.say(steps.Event{Kind: steps.Begin})
	err := s.do()
	end := steps.Event{Kind: steps.End, Seconds: time.Since(began).Seconds()}
	if err != nil {
		end.Failed, end.Text = true, err.Error()
	}
	s.say(end)
	return err == nil
}

func (s *step) do() (err error) {
	defer s.end()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	known, ok := steps.Find(s.name)
	do := doers[s.name]
	if !ok || do == nil {
		return fmt.Errorf("this guest knows no step %q", s.name)
	}
	s.begin(known.Limit)
	return do(s)
}

// doers are the steps by name.
var doers = map[string]func(*step) error{
	"devices":     devices,
	"pmem":        pmemTests,
	"shm":         shmTests,
	"tcp":         tcpTests,
	"verbs":       verbsTests,
	"mirror":      mirrorTests,
	"node":        nodeTests,
	"whale-tcp":   func(s *step) error { return whale(s, "tcp") },
	"whale-verbs": func(s *step) error { return whale(s, "verbs") },
}

func uptime() float64 {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	seconds, _ := strconv.ParseFloat(first, 64)
	return seconds
}
