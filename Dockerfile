# The robot's side: the base install with plain DDS, without PyTorch, MuJoCo and ROS.
#   docker build -t holdfast .
#   docker run --rm -it --device /dev/ttyUSB0 --group-add dialout -v "$PWD:/home/holdfast/work" holdfast \
#       deploy --robot serial:/dev/ttyUSB0 --policy policy.onnx
# A graph over DDS needs the host's network: docker run --network host ...

FROM python:3.12 AS wheels
COPY . /src
RUN pip wheel --no-cache-dir --wheel-dir /wheels '/src[dds]'

FROM python:3.12-slim
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'holdfast-robot[dds]'
# Logs and bundles are in `work`, which the host mounts.
RUN useradd --create-home holdfast && install --directory --owner holdfast /home/holdfast/work
USER holdfast
WORKDIR /home/holdfast/work
ENTRYPOINT ["holdfast"]
CMD ["doctor"]
