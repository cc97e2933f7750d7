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
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
)

// release is where the guest's packages are from: a stable Debian, and a newer kernel for it, in which soft-RoCE works
// between network namespaces.
const release = "trixie"

// packages are those of the guest, the kernel apart: for each program and library in it, and for building against it.
var packages = strings.Fields(`
	libc6 libgcc-s1 libstdc++6 libatomic1
	libibverbs1 libibverbs-dev librdmacm1t64 librdmacm-dev ibverbs-providers ibverbs-utils libnl-3-200 libnl-route-3-200
	iproute2 libelf1t64 libbpf1 libcap2 libtirpc3t64 libmnl0 libselinux1 libpcre2-8-0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1
	ndctl libndctl6 libdaxctl1 libuuid1 libudev1 libkmod2 libjson-c5 libiniparser4
	e2fsprogs libcom-err2 libss2 libext2fs2t64 libblkid1 zlib1g liblzma5 libzstd1
	redis-tools libjemalloc2 liblzf1 libsystemd0 libssl3t64`)

// apt runs apt with a configuration of its own, below dir, that knows nothing of what this machine has installed and
// changes nothing of it.
type apt struct {
	dir string
}

// newApt writes the configuration. mirror is a Debian mirror's address; empty: the one that this machine's apt uses.
func newApt(ctx context.Context, dir, mirror string) (*apt, error) {
	if mirror == "" {
		var err error
		if mirror, err = hostMirror(ctx); err != nil {
			return nil, err
		}
	}
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("the keys of Debian's archive: %w (package debian-archive-keyring)", err)
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	sources := ""
	for _, suite := range []string{release, release + "-backports"} {
		sources += fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s %s main\n", keyring, mirror, suite)
	}
	conf := fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "%[1]s/lists";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
APT::Architecture "amd64";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
`, dir)
	for name, text := range map[string]string{"sources.list": sources, "apt.conf": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return &apt{dir}, nil
}

// hostMirror is the address from which this machine's apt has its own packages, if it is a mirror of Debian.
func hostMirror(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if uri, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasSuffix(strings.TrimRight(uri, "/"), "/debian") {
			return uri, nil
		}
	}
	return "", errors.New("this machine's apt uses no mirror of Debian (an address that ends in /debian): give one with --mirror")
}

func (a *apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(a.dir, "debs")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	return cmd
}

// update fetches the lists of packages.
func (a *apt) update(ctx context.Context) error {
	return a.fetch(ctx, "package lists", "update")
}

// kernelPackages are those of the newest kernel for the release.
func (a *apt) kernelPackages(ctx context.Context) ([]string, error) {
	out, err := output(a.command(ctx, "apt-cache", "--no-all-versions", "-t", release+"-backports", "show", "linux-image-amd64"))
	if err != nil {
		return nil, err
	}
	m := regexp.MustCompile(`(?m)^Depends:.*\blinux-image-([0-9][^ ,]*-amd64)\b`).FindStringSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("linux-image-amd64 in %s-backports names no kernel:\n%s", release, out)
	}
	return []string{"linux-binary-" + m[1], "linux-modules-" + m[1]}, nil
}

// download fetches packages, by name, to the folder that it returns.
func (a *apt) download(ctx context.Context, names []string) (dir string, err error) {
	return filepath.Join(a.dir, "debs"), a.fetch(ctx, "packages", append([]string{"download"}, names...)...)
}

// fetch runs apt-get with a progress bar.
func (a *apt) fetch(ctx context.Context, what string, args ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := a.command(ctx, "apt-get", append([]string{"-o", "APT::Status-Fd=3"}, args...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &said, &said, []*os.File{w}
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	w.Close()
	showProgress(r, what)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, said.String())
	}
	return nil
}

// showProgress shows what apt reports: dlstatus:<number>:<percent>:<text> a line.
func showProgress(r io.Reader, what string) {
	bar := progressbar.NewOptions(1000, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("fetching "+what),
		progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if parts := strings.SplitN(lines.Text(), ":", 4); len(parts) == 4 && parts[0] == "dlstatus" {
			if percent, err := strconv.ParseFloat(parts[2], 64); err == nil {
				bar.Set(int(percent * 10))
			}
		}
	}
	bar.Finish()
}

// output is what cmd prints; its error has what it printed about it.
func output(cmd *exec.Cmd) (string, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return string(out), nil
}
