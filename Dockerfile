# docker build -t negserve .                    the server (the last stage)
# docker build -t negserve-client --target client .   a client that checks a server

# The kernels' target CPU: by default any CPU with AVX2 (Intel since 2013, AMD since 2015).
# --build-arg CPU=generic gives an image for every x86-64 CPU, with slower kernels.
ARG CPU=x86-64-v3


FROM python:3.13-slim-trixie AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1


# Builds wheels and environments. pip runs outside the environments, so that none contains pip.
FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/hatch && python -m venv --without-pip /opt/venv
COPY deploy/constraints.txt ./
RUN pip --python /opt/hatch/bin/python install -c constraints.txt hatchling editables
# A wheel with metadata only: dependencies are installed before the sources are copied, so that a
# change of the sources does not install them again.
COPY pyproject.toml ./
RUN mkdir -p client/negserve server/negserve_server proto/testdata && touch README.md LICENSE \
 && /opt/hatch/bin/python -m hatchling build -t wheel -d /metadata


FROM build AS wheel
COPY README.md LICENSE ./
COPY client client
COPY server server
COPY proto/testdata proto/testdata
RUN /opt/hatch/bin/python -m hatchling build -t wheel -d /wheel


FROM build AS client-venv
RUN pip --python /opt/venv/bin/python install -c constraints.txt /metadata/*.whl
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/venv/bin/python install --no-deps --force-reinstall /wheel/*.whl


FROM build AS server-venv
RUN pip --python /opt/venv/bin/python install -c constraints.txt "$(echo /metadata/*.whl)[server]"
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/venv/bin/python install --no-deps --force-reinstall /wheel/*.whl
# numba keys its cache by the CPU's name and features, so both must be the same here and at run
# time. Empty features mean those that the name implies.
ARG CPU
ENV NUMBA_CACHE_DIR=/opt/numba-cache NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES=""
RUN python -c 'from negserve_server.serving.loading import load_datasets; \
from negserve_server.warm_up import warm_up; \
warm_up(load_datasets({"world": None}))'
COPY deploy/sealed_cache.py /tmp/
RUN cp /tmp/sealed_cache.py "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && python -c 'import compileall, sealed_cache; compileall.compile_file(sealed_cache.__file__)'


FROM base AS client
LABEL org.opencontainers.image.title="negserve-client" \
      org.opencontainers.image.description="Samples from a negserve server and checks every negative" \
      org.opencontainers.image.licenses="MIT"
COPY --from=client-venv /opt/venv /opt/venv
COPY deploy/compose_client.py /opt/compose_client.py
USER 10001:10001
ENTRYPOINT ["python", "/opt/compose_client.py"]


FROM base AS server
LABEL org.opencontainers.image.title="negserve" \
      org.opencontainers.image.description="Exact, reproducible negative sampling for knowledge-graph embeddings, as a shared gRPC service" \
      org.opencontainers.image.licenses="MIT"
ARG CPU
ENV NUMBA_CACHE_DIR=/opt/numba-cache NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES="" \
    NUMBA_CACHE_LOCATOR_CLASSES=sealed_cache.SealedCacheLocator
COPY --from=server-venv /opt/venv /opt/venv
COPY --from=server-venv /opt/numba-cache /opt/numba-cache
USER 10001:10001
EXPOSE 7733
STOPSIGNAL SIGTERM
# Asks 127.0.0.1:7733; for a server at another address set NEGSERVE_HEALTH_TARGET.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "negserve_server.health_check"]
ENTRYPOINT ["negserve-server"]
CMD ["serve", "--listen", "0.0.0.0:7733"]
