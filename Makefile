# shunt: two commands do everything: `make lab` shows it at work, `make test` proves it.
# Both build and install what they need themselves; only Go is asked for.

GO      ?= go
BIN     := bin
VERSION := $(shell cat cmd/shunt/version.txt)
export CGO_ENABLED = 0

.PHONY: all build lab test race check fuzz bench bench-once bench-wire bench-dr bench-replay bench-control bench-attack bench-compare install deb rpm package-files package-version clean

all: build

build:
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/shunt ./cmd/shunt

# The laboratory: a client, a director and two realservers in network namespaces. LAB takes more flags:
# make lab LAB='--topology two-arm --keep'
lab: build
	$(BIN)/shunt lab $(LAB)

# All tests, with the race detector where a C compiler is at hand (CGO is needed for nothing else).
test: build check
	./.ci/test

# What needs no run: formatting, vet, staticcheck.
check:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Each fuzz target for a short while: make fuzz FUZZTIME=100000x
FUZZTIME ?= 10000x
fuzz:
	./.ci/fuzz $(FUZZTIME)

# Figures: make bench > new.txt; go tool benchstat old.txt new.txt
BENCH ?= .
COUNT ?= 5
bench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -count $(COUNT) -benchmem ./forwarder/... ./scheduler ./internal/replaybench

# Every benchmark once, so that it keeps working.
bench-once:
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m ./...

# shunt, a bare loop and every peer that is installed, over real wires, in turns: tables and plots in bench/results.
ROUNDS ?= 5
bench-wire: build
	$(GO) build -o $(BIN)/shuntbench ./bench/shuntbench
	$(BIN)/shuntbench wire --shunt $(BIN)/shunt --rounds $(ROUNDS) --out bench/results

# Why direct routing: large pages through one director, by shunt and by NAT in the kernel, with 2, 20 and 200 realservers.
bench-dr: build
	$(GO) build -o $(BIN)/shuntbench ./bench/shuntbench
	$(BIN)/shuntbench dr --shunt $(BIN)/shunt --rounds $(ROUNDS) --out bench/results

# Real clients beside one flood after the other, with a full table and a roomy one: bench/results/attack.md.
bench-attack: build
	$(GO) build -o $(BIN)/shuntbench ./bench/shuntbench
	$(BIN)/shuntbench attack --shunt $(BIN)/shunt --out bench/results

# What a frame costs without wires: a table, plots and CPU profiles in bench/results.
bench-replay:
	$(GO) run ./bench/replay --rounds $(ROUNDS) --out bench/results

# The control plane at size: start, SIGHUP and ipvsadm with 10,000 services.
bench-control: build
	bench/control $(BIN)/shunt

# What a change did: make bench-compare BASE=main BENCH=Process COUNT=6
BASE     ?=
PACKAGES ?= ./forwarder
bench-compare:
	@./bench/compare '$(BASE)' '$(BENCH)' '$(COUNT)' $(PACKAGES)

# IPVSADM=1 installs shunt under the name ipvsadm too, for scripts that call it; without, an ipvsadm that is there stays the one
# that is found.
PREFIX  ?= /usr/local
IPVSADM ?=
install: build
	install -D -m 0755 $(BIN)/shunt $(DESTDIR)$(PREFIX)/sbin/shunt
	$(if $(filter 1 yes true,$(IPVSADM)),ln -sf shunt $(DESTDIR)$(PREFIX)/sbin/ipvsadm)
	install -D -m 0644 packaging/shunt.yaml $(DESTDIR)$(PREFIX)/share/doc/shunt/shunt.yaml
	install -D -m 0644 packaging/shunt.service $(DESTDIR)$(PREFIX)/lib/systemd/system/shunt.service

# Packages for Debian and for RPM systems in bin/: program, hardened unit, man pages, completions, example configuration as a
# configuration file. nfpm is run, not required, by go.mod: it needs hundreds of modules. A version before a release sorts by the
# date of its commit, and below the release.
NFPM        ?= $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
DEB_ARCH    ?= $(shell $(GO) env GOARCH)
RPM_ARCH    ?= $(subst arm64,aarch64,$(subst amd64,x86_64,$(DEB_ARCH)))
DEB_VERSION ?= $(subst -dev,~dev$(shell git log -1 --format=%cd --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 2),$(VERSION))
RPM_VERSION ?= $(DEB_VERSION)
package-version:
	@echo '$(DEB_VERSION)'

package-files: build
	rm -rf $(BIN)/package && mkdir -p $(BIN)/package/completion
	cp $(BIN)/shunt $(BIN)/package/shunt
	cp -r docs $(BIN)/package/docs && rm $(BIN)/package/docs/docs.go
	sed 's,/usr/local/,/usr/,g' packaging/shunt.service > $(BIN)/package/shunt.service
	$(BIN)/shunt man $(BIN)/package/man && gzip -9n $(BIN)/package/man/*/*
	for s in bash zsh fish; do $(BIN)/shunt completion $$s > $(BIN)/package/completion/$$s; done

deb: package-files
	PACKAGE_ARCH=$(DEB_ARCH) PACKAGE_VERSION=$(DEB_VERSION) $(NFPM) package --config packaging/nfpm.yaml --packager deb \
		--target $(BIN)/shunt_$(DEB_VERSION)_$(DEB_ARCH).deb

rpm: package-files
	PACKAGE_ARCH=$(DEB_ARCH) PACKAGE_VERSION=$(RPM_VERSION) $(NFPM) package --config packaging/nfpm.yaml --packager rpm \
		--target $(BIN)/shunt-$(RPM_VERSION)-1.$(RPM_ARCH).rpm

clean:
	rm -rf $(BIN)
