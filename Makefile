# make                       builds libelman.a and the shared library with link-time optimisation, into target/c
# make run                   builds and runs the C and C++ examples
# make install               headers, libraries, pkg-config file and CMake package, to PREFIX (/usr/local); DESTDIR stages
# make install-tool          the command-line tool elman, to PREFIX/bin (as cargo install --path . does, to cargo's place)
# make uninstall             all of it
#
# PREFIX, INCLUDEDIR, LIBDIR, BINDIR and DESTDIR are honoured; an installed tree may be moved. LIB_DIR=... takes the
# libraries from there, as make leaves them in target/c, and runs no cargo; TOOL=... is the tool, as cargo has built it. STRIP=
# (empty) installs with line tables, which are most of libelman.a.

HERE       := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
CARGO      ?= cargo
INSTALL    ?= install
STRIP      ?= strip
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),$(HERE)/target))

PREFIX     ?= /usr/local
INCLUDEDIR ?= $(PREFIX)/include
LIBDIR     ?= $(PREFIX)/lib
BINDIR     ?= $(PREFIX)/bin

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' $(HERE)/Cargo.toml | head -n 1)
numbers := $(subst ., ,$(firstword $(subst -, ,$(VERSION))))
MAJOR   := $(word 1,$(numbers))
MINOR   := $(word 2,$(numbers))
# What may change from one to the next: see "Versions" in elman.h.
ABI     := $(if $(filter 0,$(MAJOR)),0.$(MINOR),$(MAJOR))

ifeq ($(shell uname -s),Darwin)
BUILT    := libelman.dylib
SONAME   := libelman.$(ABI).dylib
SHARED   := libelman.$(VERSION).dylib
# A program finds the library by the paths it was linked with.
LINK_ARG := -Wl,-install_name,@rpath/$(SONAME)
SYSTEM   := -lSystem
LOCALIZE := cp
STRIP_SHARED := -x
else
BUILT    := libelman.so
SONAME   := libelman.so.$(ABI)
SHARED   := libelman.so.$(VERSION)
LINK_ARG := -Wl,-soname,$(SONAME)
# What the Rust standard library inside libelman.a needs (cargo rustc -- --print native-static-libs).
# Compilers link libgcc_s by themselves, and what stands for it in a -static program.
SYSTEM   := -lutil -lrt -lpthread -lm -ldl
STRIP_SHARED := --strip-unneeded
# Link-time optimisation has made one object of all Rust code. What it still shows of Rust's standard library
# would clash with another Rust library in one program. The objects of compiler_builtins, which stay out of it, find each
# other by such names.
OBJCOPY  ?= objcopy
LOCALIZE := $(OBJCOPY) --wildcard --localize-symbol=rust_eh_personality --localize-symbol='!_R*compiler_builtins*' \
    --localize-symbol='!_ZN*compiler_builtins*' --localize-symbol='_R*' --localize-symbol='_ZN*'
endif

.PHONY: all libraries cargo run install tool install-tool uninstall
all: libraries

ifdef LIB_DIR
libraries:
else
LIB_DIR := $(TARGET_DIR)/c
libraries: $(LIB_DIR)/libelman.a $(LIB_DIR)/$(SHARED)

# Cargo knows best whether there is something to do. An rlib beside them would turn link-time optimisation
# off.
cargo:
	$(CARGO) rustc --release --lib --crate-type staticlib,cdylib --manifest-path $(HERE)/Cargo.toml \
	    --target-dir $(TARGET_DIR) -- -C link-arg=$(LINK_ARG)
$(TARGET_DIR)/release/libelman.a $(TARGET_DIR)/release/$(BUILT): cargo ;

$(LIB_DIR)/libelman.a: $(TARGET_DIR)/release/libelman.a
	mkdir -p $(LIB_DIR)
	$(LOCALIZE) $< $@
$(LIB_DIR)/$(SHARED): $(TARGET_DIR)/release/$(BUILT)
	mkdir -p $(LIB_DIR)
	cp $< $@
	ln -sf $(SHARED) $(LIB_DIR)/$(SONAME)
	ln -sf $(SONAME) $(LIB_DIR)/$(BUILT)
endif

run: libraries
	$(MAKE) -C $(HERE)/ffi-examples run

# From a directory below PREFIX back to PREFIX; a directory elsewhere is named as it is.
up          = $(subst $(eval) ,/,$(patsubst %,..,$(subst /, ,$(1))))
in_prefix   = $(patsubst $(PREFIX)/%,%,$(1))
LIB_IN_PREFIX     := $(call in_prefix,$(LIBDIR))
INCLUDE_IN_PREFIX := $(call in_prefix,$(INCLUDEDIR))
ifeq ($(filter /%,$(LIB_IN_PREFIX)),)
PC_PREFIX := $${pcfiledir}/$(call up,$(LIB_IN_PREFIX)/pkgconfig)
CMAKE_UP  := $(call up,$(LIB_IN_PREFIX)/cmake/elman)
else
PC_PREFIX := $(PREFIX)
CMAKE_UP  := $(call up,$(LIB_IN_PREFIX)/cmake/elman)$(PREFIX)
endif
pc_path = $(if $(filter /%,$(1)),$(1),$${prefix}/$(1))

substitute = sed \
    -e 's|@VERSION@|$(VERSION)|g' -e 's|@VERSION_MAJOR@|$(MAJOR)|g' -e 's|@VERSION_MINOR@|$(MINOR)|g' \
    -e 's|@PC_PREFIX@|$(PC_PREFIX)|' -e 's|@CMAKE_UP@|$(CMAKE_UP)|' \
    -e 's|@PC_LIBDIR@|$(call pc_path,$(LIB_IN_PREFIX))|' -e 's|@LIBDIR_IN_PREFIX@|$(LIB_IN_PREFIX)|' \
    -e 's|@PC_INCLUDEDIR@|$(call pc_path,$(INCLUDE_IN_PREFIX))|' -e 's|@INCLUDEDIR_IN_PREFIX@|$(INCLUDE_IN_PREFIX)|' \
    -e 's|@SYSTEM_LIBS@|$(SYSTEM)|' -e 's|@SYSTEM_LIBS_CMAKE@|$(subst $(eval) ,;,$(patsubst -l%,%,$(SYSTEM)))|' \
    -e 's|@STATIC_FILE@|libelman.a|' -e 's|@SHARED_FILE@|$(SHARED)|' -e 's|@SONAME@|$(SONAME)|' \
    -e 's|@IMPORT_FILE@||' \
    -e "s|@POINTER_SIZE@|$$(($$(getconf LONG_BIT) / 8))|g" \
    $(HERE)/packaging/$(1).in > $(2)/$(1)

install: libraries
	$(INSTALL) -d $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/elman
	$(INSTALL) -m 644 $(HERE)/include/elman.h $(HERE)/include/elman.hpp $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 644 $(LIB_DIR)/libelman.a $(DESTDIR)$(LIBDIR)/libelman.a
	$(INSTALL) -m 755 $(LIB_DIR)/$(BUILT) $(DESTDIR)$(LIBDIR)/$(SHARED)
	$(if $(STRIP),$(STRIP) -S $(DESTDIR)$(LIBDIR)/libelman.a)
	$(if $(STRIP),$(STRIP) $(STRIP_SHARED) $(DESTDIR)$(LIBDIR)/$(SHARED))
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/$(BUILT)
	$(call substitute,elman.pc,$(DESTDIR)$(LIBDIR)/pkgconfig)
	$(call substitute,elmanConfig.cmake,$(DESTDIR)$(LIBDIR)/cmake/elman)
	$(call substitute,elmanConfigVersion.cmake,$(DESTDIR)$(LIBDIR)/cmake/elman)

ifdef TOOL
tool:
else
TOOL := $(TARGET_DIR)/release/elman
tool:
	$(CARGO) build --release --bin elman --manifest-path $(HERE)/Cargo.toml --target-dir $(TARGET_DIR)
endif

install-tool: tool
	$(INSTALL) -d $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(TOOL) $(DESTDIR)$(BINDIR)/elman
	$(if $(STRIP),$(STRIP) $(DESTDIR)$(BINDIR)/elman)

uninstall:
	rm -f $(DESTDIR)$(INCLUDEDIR)/elman.h $(DESTDIR)$(INCLUDEDIR)/elman.hpp
	rm -f $(DESTDIR)$(BINDIR)/elman
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libelman.a $(SHARED) $(SONAME) $(BUILT) pkgconfig/elman.pc)
	rm -f $(DESTDIR)$(LIBDIR)/cmake/elman/elmanConfig.cmake $(DESTDIR)$(LIBDIR)/cmake/elman/elmanConfigVersion.cmake
	-rmdir $(DESTDIR)$(LIBDIR)/cmake/elman
