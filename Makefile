# `make` without a target lists the targets. Tools are built from internal/tools, so a
# target needs only Go and what .ci/setup installs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

tool = go tool -modfile=$(CURDIR)/internal/tools/go.mod
lint = go tool -modfile=$(CURDIR)/internal/tools/lint/go.mod golangci-lint
collector := build/otelcol-nettap
FUZZTIME ?= 10s
packages := ./internal/... ./receiver/...

# Modules of their own: the package that applications import must not depend on the Collector, and
# the programs of the demo have dependencies that users of the receiver do not need.
modules := receiver/pproflabels internal/demo
# These modules have test targets of their own, which build what they need.
deployed := internal/release internal/chart internal/dashboards
tidy := . $(modules) $(deployed) testdata/e2e/testdata/labels internal/tools internal/tools/lint
sources = $(shell find go.mod go.sum receiver internal -type f ! -name '*_test.go' ! -path '*/testdata/*' ! -path 'internal/tools/*' ! -path 'internal/matrix/*' ! -path 'internal/bench/*' ! -path 'internal/vm/*' ! -path 'internal/section/*' ! -path 'internal/selftests/*' ! -path 'internal/installed/*' ! -path 'internal/demo/*' ! -path 'internal/release/*' ! -path 'internal/chart/*' ! -path 'internal/dashboards/*' ! -path 'receiver/pproflabels/*' ! -path '*/node_modules/*' ! -path 'internal/view/page/src/*' ! -path 'internal/view/page/test/*')

.PHONY: help
help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# mdatagen takes the directory of the metadata for the component's package, so it
# works on a copy that is a module with one package. The tests that it writes read the metadata
# in their own directory, for which receiver/metadata.yaml is a link. The Go structs that it makes
# of the configuration are not used, because they cannot have checks that compare two keys. The
# schema of the Collector's filters, which mdatagen would fetch, is in the module. The points of
# a histogram have a sum, but mdatagen sets a value, which only points of numbers have. In the
# configuration metrics and events are below their instruments, which mdatagen's document does not know.
.PHONY: metadata
metadata:
	rm -rf build/nettapreceiver .schemas
	mkdir -p build/nettapreceiver $(filter_schema)
	cp metadata.yaml go.mod go.sum receiver/doc.go receiver/README.md build/nettapreceiver/
	cp $$(go list -m -f '{{.Dir}}' $(filter_module))/metadata.yaml $(filter_schema)/
	cd build/nettapreceiver && $(tool) mdatagen metadata.yaml
	cd build/nettapreceiver/internal/metadata && sed -i '/Histogram().DataPoints().AppendEmpty()/,/^}/s/SetDoubleValue/SetSum/' generated_metrics.go && \
		sed -i '/:= mi.Histogram().DataPoints().At(0)/,/^\t*case /{/NumberDataPointValueType/d;s/dp.DoubleValue()/dp.Sum()/}' generated_metrics_test.go
	cp -r build/nettapreceiver/internal/metadata build/nettapreceiver/internal/metadatatest internal/
	cp build/nettapreceiver/generated_component_test.go build/nettapreceiver/generated_package_test.go receiver/
	cp build/nettapreceiver/config.schema.json build/nettapreceiver/README.md receiver/
	sed '/^```yaml$$/,/^```$$/{s/^[^`]/  &/;s/^```yaml$$/&\n<instrument>:/}' build/nettapreceiver/documentation.md >docs/telemetry.md
	chmod 644 receiver/config.schema.json
	rm -rf build/nettapreceiver .schemas

filter_module := go.opentelemetry.io/collector/filter
filter_schema = .schemas/$$(go list -m -f '{{.Version}}' $(filter_module))/filter

# The schema of the configuration is made of the Go types. These include types that mdatagen
# writes, and mdatagen reads the schema, so metadata is made before and after.
.PHONY: generate
generate: ## write everything that is generated: metadata from metadata.yaml, BPF objects from bpf/, the page of the view
	@command -v clang-19 >/dev/null || .ci/setup
	$(MAKE) --no-print-directory metadata
	go test ./receiver -run '^TestConfiguration(IsDocumented|HasASchema)$$' -write-configuration
	$(MAKE) --no-print-directory metadata
	go test ./internal/drops -run '^TestReasonsAreDocumented$$' -write-reasons
	go generate ./internal/...
	$(MAKE) --no-print-directory page

# The file in which npm records what it has installed.
page_tools := internal/view/page/node_modules/.package-lock.json
$(page_tools): internal/view/page/package-lock.json
	@command -v npm >/dev/null || .ci/setup
	cd internal/view/page && npm ci
	@touch $@

.PHONY: page
page: $(page_tools) ## write the page of the view that is embedded: internal/view/page/dist
	cd internal/view/page && npm run --silent build

.PHONY: page-tools
page-tools: $(page_tools)

# Where there is no npm, the tests of the page are skipped, which they say themselves.
.PHONY: page-tools-if-any
page-tools-if-any:
	@command -v npm >/dev/null || .ci/setup
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory page-tools

.PHONY: build
build: $(collector) ## build the Collector distribution with nettap: build/otelcol-nettap

# ocb resolves the modules each time, because a source may import another one.
# The rest is in Go's build cache.
$(collector): builder-config.yaml $(sources)
	@mkdir -p build
	$(tool) builder --config builder-config.yaml
	mv build/distribution/otelcol-nettap $@

.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo "this needs root: observing every process takes the privileges listed in README.md"; exit 1; }

.PHONY: run
run: root build ## build and start the Collector with deploy/config.yaml: tables here, a page on port 8777 (as root; Ctrl-C ends it)
	exec $(collector) --config deploy/config.yaml

.PHONY: test
test: setup build ## install what is missing, then run the unit, kernel, end-to-end and page's tests on this kernel (as root)
	@.ci/tests test-unit test-kernel test-e2e test-page

.PHONY: test-unit
test-unit: ## run the tests that need neither privileges nor a special kernel (RACE=-race: with the race detector)
	go test $(RACE) $(TESTFLAGS) -short -skip '^TestKernel|^TestBrowser' $(packages)
	@for module in $(modules); do go -C $$module test $(RACE) $(TESTFLAGS) ./... || exit 1; done

# This builds programs with other releases of Go, which takes long if they have to be fetched.
.PHONY: test-releases
test-releases: ## check that programs of each release of Go are understood, and that pproflabels works with the oldest (2 minutes)
	go test $(TESTFLAGS) -count=1 -run '^TestGo|^TestReadGo' ./internal/tracecontext
	GOTOOLCHAIN=go1.21.13 go -C receiver/pproflabels test ./...

.PHONY: test-page
test-page: page-tools-if-any ## run the tests that look at the page of the view in Chromium (2 minutes)
	go test $(TESTFLAGS) -count=1 -timeout 15m -run '^TestBrowser' ./internal/view

# One package is tested at a time, since some count what happens on the whole machine. All are
# compiled before that, which uses every core.
kernel_packages = $(shell grep -rl --include='*_test.go' '^func TestKernel' internal receiver | xargs -n 1 dirname | sort -u | sed 's|^|./|')

.PHONY: test-kernel
test-kernel: ## run the tests that load BPF programs into this kernel (as root)
	@go list -export -test $(kernel_packages) >/dev/null
	go test $(TESTFLAGS) -vet=off -count=1 -p 1 -timeout 15m -run '^TestKernel' $(kernel_packages)

.PHONY: test-e2e
test-e2e: build page-tools-if-any ## run the tests that drive build/otelcol-nettap with real traffic (as root)
	go test $(TESTFLAGS) -count=1 -parallel 4 -timeout 20m -skip '^TestJaeger|^TestSelftests|^TestSoak|^TestGateway' ./testdata/e2e/

SOAKTIME ?= 10m

.PHONY: soak
soak: build ## run the Collector for SOAKTIME (10m) while everything comes and goes, reload and kill it (as root; half as long again)
	NETTAP_SOAK_TIME=$(SOAKTIME) go test $(TESTFLAGS) -count=1 -timeout 2h -run '^TestSoak' ./testdata/e2e/

.PHONY: test-matrix
test-matrix: build ## run the kernel tests on the kernels of testdata/kernels.txt, under qemu
	@.ci/setup matrix
	go run ./internal/matrix $(MATRIXFLAGS)

.PHONY: fuzz
fuzz: ## feed each decoder and parser random input, for FUZZTIME each (10s)
	@grep -rE '^func Fuzz' --include='*_test.go' internal receiver | sed -E 's/^(.*)\/[^/]*:func (Fuzz[A-Za-z]*).*/\1 \2/' | \
		while read -r directory name; do go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$directory || exit 1; done

.PHONY: bench
bench: ## measure what the instruments cost: instructions on other kernels, under qemu, and time on this one (as root; 15 minutes)
	@.ci/setup matrix
	go run ./internal/bench -here $(BENCHFLAGS)

.PHONY: bench-record
bench-record: ## the same, and write it into testdata/cost.json and README.md
	@$(MAKE) --no-print-directory bench BENCHFLAGS="-record $(BENCHFLAGS)"

.PHONY: bench-scale
bench-scale: build ## measure what the Collector takes by processes, sockets, interfaces and cores, and draw docs/cost-*.svg (as root; 8 minutes)
	go run ./internal/bench -scale -record

.PHONY: sizing
sizing: build ## measure what an agent sends to a gateway, and write the tables of docs/sizing.md (as root; 3 minutes)
	go run ./internal/bench -sizing -record

.PHONY: bench-check
bench-check: ## check that no instrument takes more instructions on Linux 6.18 than testdata/cost.json says (2 minutes)
	@.ci/setup matrix
	go run ./internal/bench -check -every-rung=false -floors=false -kernel 'amd64 linux-image-6\.18\.'

.PHONY: benchmarks
benchmarks: ## run the Go benchmarks, which tell the time of each program (as root)
	go test -run '^$$' -bench . -benchtime 3s $(packages)

# Jaeger needs replace directives, so it has a go.mod of its own.
build/jaeger: internal/tools/jaeger/go.mod
	go build -modfile=$(CURDIR)/internal/tools/jaeger/go.mod -ldflags='-s -w' -o $@ github.com/jaegertracing/jaeger/cmd/jaeger

.PHONY: jaeger
jaeger: build/jaeger ## build Jaeger, for make demo, make test-jaeger and make test-gateway (minutes)

.PHONY: test-jaeger
test-jaeger: build build/jaeger ## check that Jaeger shows the trees of calls as they are (as root)
	go test $(TESTFLAGS) -count=1 -run '^TestJaeger' ./testdata/e2e/

.PHONY: test-selftests
test-selftests: build ## run the kernel's own tests of its network stack beside the Collector, on this kernel (as root; 5 minutes)
	@.ci/setup selftests
	go run ./internal/selftests build/selftests
	go test $(TESTFLAGS) -count=1 -timeout 20m -v -run '^TestSelftests' ./testdata/e2e/

.PHONY: test-selftests-guests
test-selftests-guests: build ## the same on Linux 6.1 and 6.18, under qemu, of those that are quick (a quarter of an hour)
	@.ci/setup selftests
	@.ci/setup matrix
	go run ./internal/selftests build/selftests
	go run ./internal/matrix -selftests -kernel 'amd64 linux-image-6\.(1|18)\..*-cloud-amd64$$' -run '^TestSelftestsPass$$' ./testdata/e2e

# The sources that ocb has written are built for another architecture, which takes as long as the first build.
build/otelcol-nettap-arm64: $(collector)
	cd build/distribution && GOARCH=arm64 CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o ../otelcol-nettap-arm64 .

ARCHITECTURES ?= amd64 arm64
version = $(shell sed -n 's/^  version: //p' builder-config.yaml)
programs = $(foreach architecture,$(ARCHITECTURES),$(collector)$(filter -arm64,-$(architecture)))

.PHONY: release
release: $(programs) ## make the files of a release: deb, rpm, image, SBOMs and checksums (ARCHITECTURES=amd64: only that one)
	@test "$$(go env GOARCH)" = amd64 || { echo "make release takes build/otelcol-nettap for amd64, which this machine is not"; exit 1; }
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} go run -C internal/release . -repository $(CURDIR) -directory $(CURDIR)/build/release \
		-version $(version) $(foreach architecture,$(ARCHITECTURES),$(architecture)=$(CURDIR)/$(collector)$(filter -arm64,-$(architecture)))

.PHONY: package
package: release ## the same: the packages are build/release/*.deb and *.rpm

# A minimal Debian for tests that install packages, and one with what a server usually has. They are from where this
# machine gets its own.
build/debian.tar: debian = --variant=minbase
build/server.tar: debian = --include=bpftool,ca-certificates,cron,curl,dbus,libpam-systemd,logrotate,man-db,openssh-server,procps,python3,rsyslog,sudo,systemd-sysv,systemd-timesyncd,unattended-upgrades
build/debian.tar build/server.tar:
	@.ci/setup release
	rm -rf $(basename $@)
	debootstrap $(debian) bookworm $(basename $@) $$(apt-get indextargets --format '$$(SITE)' 'Label: Debian' | head -n 1)
	rm -rf $(basename $@)/var/cache/apt/archives/*.deb
	tar --create --numeric-owner --file $@ --directory $(basename $@) .
	rm -rf $(basename $@)

.PHONY: test-packages
test-packages: release build/debian.tar ## install, upgrade and remove the packages and run the image, in roots of their own (as root)
	@.ci/setup release
	NETTAP_RELEASE=$(CURDIR)/build/release NETTAP_ROOT=$(CURDIR)/build/debian.tar go test -C internal/release $(TESTFLAGS) -count=1 ./...

.PHONY: test-systemd
test-systemd: release build/server.tar ## install the deb on a Debian that runs systemd, in a virtual machine, for an idle day (as root; up to half an hour)
	@.ci/setup matrix
	NETTAP_RELEASE=$(CURDIR)/build/release NETTAP_ROOT=$(CURDIR)/build/server.tar go test $(TESTFLAGS) -count=1 -timeout 50m -run '^TestDebian' ./internal/installed

.PHONY: test-arm64
test-arm64: release ## run the program of the deb and of the image for arm64, in a virtual machine (2 minutes, and a build for arm64)
	@.ci/setup matrix
	NETTAP_RELEASE=$(CURDIR)/build/release go test $(TESTFLAGS) -count=1 -timeout 50m -run '^TestARM64' ./internal/installed

.PHONY: test-chart
test-chart: build ## check that Helm, the Kubernetes API and the distribution accept the Helm chart
	NETTAP_COLLECTOR=$(CURDIR)/$(collector) go test -C internal/chart $(TESTFLAGS) -count=1 ./...

build/victoriametrics: internal/tools/victoriametrics/go.mod
	go build -modfile=$(CURDIR)/internal/tools/victoriametrics/go.mod -o $@ github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics

.PHONY: test-dashboards
test-dashboards: build build/victoriametrics ## check each panel and alert, in VictoriaMetrics (as root)
	NETTAP_COLLECTOR=$(CURDIR)/$(collector) NETTAP_VICTORIAMETRICS=$(CURDIR)/build/victoriametrics \
		go test -C internal/dashboards $(TESTFLAGS) -count=1 ./...

OUTAGE ?= 0s
.PHONY: test-gateway
test-gateway: build build/victoriametrics build/jaeger ## check that agents, a gateway and backends lose nothing (as root; OUTAGE=1m: without the gateway for so long)
	go test $(TESTFLAGS) -count=1 -run '^TestGateway' ./testdata/e2e/ -outage $(OUTAGE)

.PHONY: demo
demo: build ## run applications that trace themselves, and see what the kernel adds (as root; Ctrl-C ends it)
	@.ci/demo

.PHONY: footprint
footprint: build ## print the size of the distribution and the memory it takes when idle (as root)
	@.ci/footprint

.PHONY: setup
setup:
	@.ci/setup

.PHONY: lint
lint: ## run the linters over the Go code
	@unformatted=$$(gofmt -l internal receiver testdata); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(lint) run --allow-serial-runners $(packages) ./testdata/e2e/
	@for module in $(modules) $(deployed); do (cd $$module && $(lint) run --allow-serial-runners ./...) || exit 1; done

unlicensed = grep -rLE '^// (SPDX-License-Identifier: |Code generated )' --include='*.go' --exclude-dir=node_modules internal receiver testdata

.PHONY: headers
headers: ## write the SPDX line of the licence into each Go file that has none
	@for file in $$($(unlicensed)); do sed -i '1i // SPDX-License-Identifier: Apache-2.0\n' $$file && echo $$file; done

generated = find internal/metadata internal/metadatatest internal/*/bpf_* internal/drops/records_*_bpfel.* internal/view/page/dist receiver/generated_* receiver/config.schema.json receiver/README.md metadata.yaml docs/telemetry.md docs/configuration.md -type f | sort | xargs sha256sum

# Outside internal/kernel, the names of programs, maps and variables must be the constants that bpf2go
# writes, so that the compiler checks them. In bpf/lib every header is in the folder of its subject. The
# paths in the glossary exist. Words for which the glossary has others are not used. The running
# instrument of a test is called a fixture, because zap and OpenTelemetry have observers.
replaced = \b[bB]ooks\b|interfaceBooks|requireBooks|^type (observer|house|outlet|face|trait|sheet|page|worker) 

.PHONY: check-names
check-names:
	@! grep -rnE --include='*.go' --exclude='bpf_*_bpfel.go' --exclude-dir=kernel \
		'(object|spec|Object|Spec)\.(Maps|Programs|Variables)\["|Programs: \[\]string\{"' internal receiver || \
		{ echo "use the names that bpf2go has written, as bpfMapStats"; exit 1; }
	@programs=$$(grep -ohE 'Prog[A-Z]\w+ += "[a-z0-9_]+"' internal/*/*_x86_bpfel.go | cut -d'"' -f2 | paste -sd'|'); \
		! grep -rnE --include='*.go' --exclude='*_bpfel.go' --exclude='*_test.go' --exclude-dir=kernel "\"($$programs)\"" internal receiver || \
		{ echo "use the names that bpf2go has written, as bpfProgCountTransmit"; exit 1; }
	@! ls bpf/lib/*.h 2>/dev/null || { echo "move it to the folder of its subject in bpf/lib"; exit 1; }
	@! grep -rnE --include='*.go' --include='*.[ch]' --include='*.ts' --include='*.tsx' --include='*.md' --exclude-dir=node_modules --exclude-dir=build \
		'$(replaced)' . || { echo "docs/glossary.md has another word for it"; exit 1; }
	@grep -oE '`(bpf|internal|receiver)/[^`]*`' docs/glossary.md | tr -d '`' | while read -r path; do \
		test -e "$$path" || { echo "docs/glossary.md: there is no $$path"; exit 1; }; done

.PHONY: check
check: lint check-names ## lint, vet, cross-compile, and check that generated files are up to date
	@unlicensed=$$($(unlicensed)); test -z "$$unlicensed" || { echo "no licence is said by $$unlicensed: run make headers"; exit 1; }
	go vet $(packages) ./testdata/e2e/
	GOARCH=arm64 go vet $(packages) ./testdata/e2e/
	GOOS=darwin go vet $(packages)
	GOOS=windows go vet $(packages)
	@for module in $(modules) $(deployed); do go -C $$module vet ./... || exit 1; done
	@for module in $(tidy); do go -C $$module mod tidy -diff || { echo "go.mod of $$module is not tidy: run go mod tidy there"; exit 1; }; done
	@mkdir -p build && $(generated) >build/generated
	$(MAKE) --no-print-directory generate
	@$(generated) | diff build/generated - || { echo "generated files differ from what the sources give: commit what make generate wrote"; exit 1; }

.PHONY: clean
clean: ## remove what was built
	rm -rf build
