package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"whale/lab/steps"
)

// The emulated NVDIMMs: for tests of programs, for the three members of a cluster, and for a file system. The guest numbers
// them as it likes, so that all are alike.
const (
	memories  = 5
	memoryMiB = 256
)

// machine is a virtual machine, run once.
type machine struct {
	dir       string // for its files; somebody else removes it
	kernel    string
	initramfs string
	run       string // number of the run, in every event
}

// boot runs the machine until it switches itself off, and calls on with each event. Console is what its kernel said and what
// was not said in order. When ctx ends, so does the machine; it also ends with this process.
func (m *machine) boot(ctx context.Context, on func(steps.Event)) (console string, err error) {
	listener, err := net.Listen("unix", filepath.Join(m.dir, "report"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	args, err := m.arguments(listener.Addr().String())
	if err != nil {
		return "", err
	}
	// The signal that the kernel sends to the child is for the end of the thread that started it, so this thread stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var reporting sync.WaitGroup
	var broken error
	reporting.Go(func() {
		line, err := listener.Accept()
		if err != nil {
			return // the machine ended before it connected
		}
		defer line.Close()
		if broken = steps.Decode(line, m.run, on); broken != nil {
			cmd.Process.Kill()
		}
	})
	err = cmd.Wait()
	listener.Close()
	reporting.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if err != nil {
		err = fmt.Errorf("qemu-system-x86_64: %w", err)
	}
	return said.String(), errors.Join(err, broken)
}

func (m *machine) arguments(report string) ([]string, error) {
	args := []string{
		// Emulation also where the processor could do better: a virtual machine inside a virtual machine may offer
		// virtualisation that does not carry a kernel to its end.
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G,slots=8,maxmem=8G",
		"-machine", "q35,nvdimm=on,nvdimm-persistence=mem-ctrl",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-chardev", "socket,id=report,path=" + report, "-serial", "chardev:report",
		"-kernel", m.kernel, "-initrd", m.initramfs, "-append", "console=ttyS0 panic=-1 quiet",
	}
	for i := range memories {
		path := filepath.Join(m.dir, fmt.Sprint("nvdimm", i))
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(f.Truncate(memoryMiB<<20), f.Close()); err != nil {
			return nil, err
		}
		args = append(args, "-object", fmt.Sprintf("memory-backend-file,id=memory%d,mem-path=%s,size=%dM,share=on", i, path, memoryMiB),
			"-device", fmt.Sprintf("nvdimm,id=nvdimm%d,memdev=memory%[1]d", i))
	}
	return args, nil
}
