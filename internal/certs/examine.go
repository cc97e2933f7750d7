package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// soon is how long before its end a certificate is spoken of.
const soon = 30 * 24 * time.Hour

// Place is a host by which a node is reached.
type Place struct {
	Host    string // a name or an address; an unspecified one (0.0.0.0) says nothing and is left out
	Setting string // where it is said
	Member  bool   // other members reach the node by it: they refuse a certificate that is not good for it
}

// Report is what [Files.Examine] has found.
type Report struct {
	Names  []string  // hosts that the certificate is good for
	Ends   time.Time // when it ends
	Faults []*Fault
}

// Examine looks for all that keeps a node with these files from running, and its clients and, if there are some that
// reach it by TLS, its fellow members from trusting it at a time. It asks what [Files.Load] and the handshake ask, but says
// everything at once.
func (f Files) Examine(now time.Time, members bool, places []Place) (r Report) {
	config, faults := f.load()
	r.Faults = faults
	if config == nil {
		return r
	}
	leaf := config.Certificates[0].Leaf
	r.Names, r.Ends = slices.Clone(leaf.DNSNames), leaf.NotAfter
	for _, ip := range leaf.IPAddresses {
		r.Names = append(r.Names, ip.String())
	}
	e := &examination{Report: &r, files: f, pair: config.Certificates[0], roots: config.RootCAs, now: now, members: members}
	e.validity(leaf, "--tls-cert "+f.Cert, e.renew())
	e.signature()
	e.usages()
	e.hosts(places)
	return r
}

type examination struct {
	*Report
	files   Files
	pair    tls.Certificate
	roots   *x509.CertPool
	now     time.Time
	members bool
}

func (e *examination) fault(mild bool, todo, format string, args ...any) {
	e.Faults = append(e.Faults, &Fault{Err: fmt.Errorf(format, args...), Todo: todo, Mild: mild})
}

// renew is how to come by another certificate, for further hosts.
func (e *examination) renew(more ...string) string {
	hosts := slices.Concat(e.Names, more)
	if len(hosts) == 0 {
		hosts = []string{"NAME"}
	}
	return fmt.Sprintf("move the old one and its key away, and make a new one where "+CACert+" and "+CAKey+" are: whale cert --dir %s --host %s; then start the node again",
		filepath.Dir(e.files.Cert), strings.Join(hosts, ","))
}

// validity looks whether now is between the two dates of a certificate.
func (e *examination) validity(c *x509.Certificate, name, todo string) {
	switch {
	case e.now.Before(c.NotBefore):
		e.fault(false, "set this machine's clock, or "+todo, "%s is not good before %s", name, c.NotBefore.Format(time.RFC3339))
	case e.now.After(c.NotAfter):
		e.fault(false, todo, "%s has ended on %s: everybody refuses it", name, c.NotAfter.Format(time.DateOnly))
	case c.NotAfter.Sub(e.now) < soon:
		e.fault(true, todo, "%s ends on %s", name, c.NotAfter.Format(time.DateOnly))
	}
}

// verify asks for a chain from the certificate to one of roots. The certificate's own dates are not in question.
func (e *examination) verify(roots *x509.CertPool, usage x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	leaf, at := e.pair.Leaf, e.now
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	between := x509.NewCertPool()
	for _, der := range e.pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	return leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
}

// signature looks whether those who have the same authority trust the certificate, and the authority's own dates.
func (e *examination) signature() {
	const anew = "make a new authority, and certificates of it for all nodes and clients, in new folders: whale cert"
	chains, err := e.verify(e.roots, x509.ExtKeyUsageAny)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		e.fault(!e.members, anew, "the authority in --tls-ca %s has ended, or is not good yet: who asks for it refuses --tls-cert %s (%w)", e.files.CA, e.files.Cert, err)
		return
	}
	if err != nil {
		e.fault(!e.members, "name the "+CACert+" of the authority that signed it, the same at all nodes, or let whale cert make another in the folder of that authority",
			"--tls-cert %s is not signed by the authority in --tls-ca %s: members (--fabric tcp) and whale status refuse it (%w)", e.files.Cert, e.files.CA, err)
		return
	}
	authority := chains[0][len(chains[0])-1]
	e.validity(authority, "the authority in --tls-ca "+e.files.CA, anew)
}

// usages looks whether the certificate may be used by both sides: a node is a server to clients, and both to members.
func (e *examination) usages() {
	self := x509.NewCertPool()
	self.AddCert(e.pair.Leaf)
	for _, u := range []struct {
		name  string
		usage x509.ExtKeyUsage
		mild  bool
	}{{"servers (serverAuth)", x509.ExtKeyUsageServerAuth, false}, {"clients (clientAuth), which a node is to other members", x509.ExtKeyUsageClientAuth, !e.members}} {
		if _, err := e.verify(self, u.usage); err != nil {
			e.fault(u.mild, "take one for both, as whale cert makes it", "--tls-cert %s is not meant for %s: %w", e.files.Cert, u.name, err)
		}
	}
}

// hosts looks whether the certificate is good for all places.
func (e *examination) hosts(places []Place) {
	var missing []string
	var faults []*Fault
	for _, p := range places {
		if ip := net.ParseIP(p.Host); p.Host == "" || ip != nil && ip.IsUnspecified() {
			continue
		}
		if err := e.pair.Leaf.VerifyHostname(p.Host); err != nil {
			faults = append(faults, &Fault{Mild: !p.Member,
				Err: fmt.Errorf("--tls-cert %s is not good for the host in %s: who reaches this node by it refuses the certificate (%w)", e.files.Cert, p.Setting, err)})
			if !slices.Contains(missing, p.Host) {
				missing = append(missing, p.Host)
			}
		}
	}
	for _, f := range faults {
		f.Todo = e.renew(missing...)
	}
	e.Faults = append(e.Faults, faults...)
}
