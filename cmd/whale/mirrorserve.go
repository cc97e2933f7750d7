//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/internal/config"
	"whale/mirror"
	"whale/pmem"
)

// mirrorServe is `whale mirror serve`.
type mirrorServe struct {
	file, domain string
	size         config.Size
	endpointFlags
}

func mirrorServeCmd() *cobra.Command {
	var s mirrorServe
	cmd := &cobra.Command{
		Use:   "serve --file FILE --secret FILE",
		Short: "Offer a file to be the mirror of a region",
		Long: `Offers a file, or a device of persistent memory, to be the mirror of a region that a program on this machine or another one
keeps (package mirror). The program writes to it by itself: over shared memory and RDMA this process takes no part.

A file that does not exist is made, with --size; it must be as large as the primary's. One primary uses it at a time: when it
comes back, or another one takes over, nothing of the one before lands any more. To fail over, stop this command and open the
file as the primary's.

Other programs reach it by the address that is printed. Over shared memory that is the folder FILE.fabric, which is made.`,
		Example: `  (umask 077; openssl rand -hex 32 > secret)
  whale mirror serve --file copy --size 64MiB --secret secret
  whale mirror serve --file copy --size 64MiB --secret secret --fabric tcp --listen 127.0.0.1:7400
  whale mirror serve --file /dev/dax0.0 --size 1GiB --secret secret --fabric verbs --listen 10.0.0.2:7400 --insecure`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringVar(&s.file, "file", "", "the mirror's memory: a file or a device (required)")
	fl.Var(&s.size, "size", "its size; needed for a file that does not exist and for a device")
	fl.StringVar(&s.domain, "domain", "auto", "persistence domain: auto, what the file itself gives; adr or eadr, if you know better")
	s.bind(cmd, "how primaries reach it", "127.0.0.1:7400")
	cmd.MarkFlagRequired("file")
	return cmd
}

func (s *mirrorServe) run(cmd *cobra.Command) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	memory, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	ep, err := s.endpointFlags.open(s.file+".fabric", memory.Domain())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ep.Close()) }()
	export, err := mirror.NewExport(ep, memory)
	if err != nil {
		return err
	}
	export.Report = func(err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  not admitted: %v\n", time.Now().Format(time.DateTime), err)
	}
	label, err := export.Label()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "serving %s, %d bytes, domain %v, at %s\n", s.file, label.Size, memory.Domain(), ep.Addr())
	if label.State.Condition == mirror.Blank {
		fmt.Fprintln(out, "it is blank: the first primary fills it")
	} else {
		fmt.Fprintf(out, "it holds region %v, %v\n", label.ID, label.State)
	}
	return export.Serve(ctx)
}

func (s *mirrorServe) open() (*pmem.File, error) {
	domains := map[string]pmem.Domain{"auto": pmem.None, "adr": pmem.ADR, "eadr": pmem.EADR}
	domain, ok := domains[s.domain]
	if !ok {
		return nil, fmt.Errorf("mirror: --domain %s: want auto, adr or eadr", s.domain)
	}
	if _, err := os.Stat(s.file); errors.Is(err, os.ErrNotExist) && s.size == 0 {
		return nil, fmt.Errorf("mirror: %s does not exist: give --size, that of the primary's file, and it is made", s.file)
	}
	if size := uint64(s.size); size != 0 && (size <= mirror.HeadSize || size%64 != 0) { // before it is made
		return nil, fmt.Errorf("mirror: --size %d: want a multiple of 64 above %d, for the label alone takes that", size, mirror.HeadSize)
	}
	return pmem.Map(s.file, uint64(s.size), pmem.Options{Domain: domain})
}
