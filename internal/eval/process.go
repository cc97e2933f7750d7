//go:build linux

package eval

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a server that was started here. It does not outlive this process, however that ends.
type process struct {
	name string
	log  string // file with what it printed
	cmd  *exec.Cmd
	gone chan struct{}
	err  error // why, once gone is closed
}

// startProcess runs argv; what it prints goes to the file name.log in dir. A process group of its own keeps the
// terminal's Ctrl-C away from it: it is stopped in order.
func startProcess(dir, name string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), gone: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// ended is nil while the process runs, else an error with the end of what it printed.
func (p *process) ended() error {
	select {
	case <-p.gone:
	default:
		return nil
	}
	text, _ := os.ReadFile(p.log)
	text = bytes.TrimSpace(text)
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return fmt.Errorf("%s ended (%v); it printed:\n%s", strings.Join(p.cmd.Args, " "), p.err, text)
}

// stop asks the process to end, and kills its group if it does not within ten seconds.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(10 * time.Second):
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.gone
	}
}

// freePorts finds n consecutive ports of the loopback address that nobody listens on. Below the range from which the
// kernel takes the local ports of outgoing connections, so that none of those takes one before the server is up.
func freePorts(n int) (int, error) {
	for range 100 {
		base := 20000 + rand.IntN(12000)
		free := true
		for port := base; port < base+n && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no %d free consecutive ports between 20000 and 32000", n)
}
